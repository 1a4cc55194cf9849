//! The published crates as strangers get them: packed, and used by a crate that has nothing of the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo::cargo;
use crate::failure::Failure;
use crate::repository::{Member, Repository};

/// The directory of the crate outside, with the packed crates below it.
const OUTSIDE: &str = "target/outside";
const PACKED: &str = "target/package";

/// The files of the crate outside.
const MANIFEST: &str = include_str!("../outside/Cargo.toml.in");
const TESTS: &[(&str, &str)] = &[
    ("process.rs", include_str!("../outside/tests/process.rs")),
    ("container.rs", include_str!("../outside/tests/container.rs")),
];

/// Packs what is published, builds a crate outside with nothing but the packed files, and runs its conformance suite. A
/// harness that the suite's command writes there compiles. The one over a container is built, and runs where
/// `OUTSIDE_IMAGE` names an image.
pub(crate) fn run() -> Result<(), Failure> {
    let repository = Repository::load()?;
    let (published, others): (Vec<_>, Vec<_>) = repository.members.iter().partition(|member| member.is_published);
    pack(&others)?;
    let outside = Path::new(OUTSIDE);
    if outside.exists() {
        fs::remove_dir_all(outside)?;
    }
    fs::create_dir_all(outside.join("tests"))?;
    let unpacked: Vec<_> = published.iter().map(|member| unpack(member)).collect::<Result<_, _>>()?;
    fs::write(outside.join("Cargo.toml"), manifest(&published, &unpacked))?;
    fs::copy("Cargo.lock", outside.join("Cargo.lock"))?;
    for (name, text) in TESTS {
        fs::write(outside.join("tests").join(name), text)?;
    }
    write_harness(outside)?;
    test(outside, &["--test", "conformance", "--no-run"])?;
    test(outside, &["--test", "container", "--no-run"])?;
    test(outside, &["--test", "process"])?;
    if std::env::var_os("OUTSIDE_IMAGE").is_some() {
        test(outside, &["--test", "container"])?;
    }
    Ok(())
}

/// Packs all crates but these. That cargo finds an order for them shows that they point one way. The crates of others
/// are fetched before, since the crate outside needs some that nothing here builds.
fn pack(others: &[&Member]) -> Result<(), Failure> {
    run_to_end(cargo().args(["fetch", "--locked", "--quiet"]))?;
    let mut packing = cargo();
    packing.args(["package", "--locked", "--offline", "--quiet", "--no-verify", "--allow-dirty", "--workspace"]);
    packing.args(others.iter().flat_map(|member| ["--exclude", &member.name]));
    run_to_end(&mut packing)
}

/// Returns the directory with the packed files of a crate.
fn unpack(member: &Member) -> Result<PathBuf, Failure> {
    let name = format!("{}-{}", member.name, member.version);
    let packed = Path::new(PACKED).join(format!("{name}.crate"));
    // All that is packed has one time in the past. Cargo would take what it built of an earlier packing for fresh.
    run_to_end(Command::new("tar").args(["--touch", "-xzf"]).arg(&packed).arg("-C").arg(OUTSIDE))?;
    Ok(name.into())
}

/// Every published crate is a dependency, with all of its features, and comes from its packed files.
fn manifest(published: &[&Member], unpacked: &[PathBuf]) -> String {
    let with_features = |name: &str| match name {
        "partitura" => r#", features = ["all", "metrics", "testing"]"#,
        "partitura-conformance" => r#", features = ["containers"]"#,
        _ => "",
    };
    let needs = published.iter().map(|member| {
        format!("{0} = {{ version = \"{1}\"{2} }}", member.name, member.version, with_features(&member.name))
    });
    let patches = published
        .iter()
        .zip(unpacked)
        .map(|(member, directory)| format!("{} = {{ path = \"{}\" }}", member.name, directory.display()));
    let lines = |lines: Vec<String>| lines.join("\n");
    MANIFEST.replace("@PUBLISHED@", &lines(needs.collect())).replace("@PATCHES@", &lines(patches.collect()))
}

/// Writes a harness as an author of an adapter does, by the suite's command.
fn write_harness(outside: &Path) -> Result<(), Failure> {
    let mut writing = cargo();
    writing.args(["run", "--quiet", "--locked", "--offline", "--bin", "cargo-conformance", "--manifest-path"]);
    writing.arg(fs::canonicalize("conformance/Cargo.toml")?);
    run_to_end(writing.args(["--", "conformance", "new", "outside"]).current_dir(outside))
}

/// Runs cargo on the crate outside. It shares the directory of targets, so that what others wrote is not built again.
fn test(outside: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let mut testing = cargo();
    testing.args(["test", "--offline", "--manifest-path"]).arg(outside.join("Cargo.toml"));
    testing.args(arguments).env("CARGO_TARGET_DIR", fs::canonicalize("target")?);
    run_to_end(&mut testing)
}

fn run_to_end(command: &mut Command) -> Result<(), Failure> {
    println!("$ {command:?}");
    let status = command.status().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crate_outside_needs_every_published_crate_and_takes_it_from_its_packed_files() {
        let member = |name: &str| Member { name: name.to_owned(), version: "1.2.3".to_owned(), ..Member::default() };
        let (facade, suite) = (member("partitura"), member("partitura-conformance"));
        let made = manifest(&[&facade, &suite], &["a".into(), "b".into()]);
        assert!(made.contains("partitura = { version = \"1.2.3\", features = [\"all\""), "{made}");
        assert!(made.contains("partitura-conformance = { path = \"b\" }"), "{made}");
        assert!(!made.contains('@'), "{made}");
    }
}
