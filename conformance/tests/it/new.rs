use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

const MANIFEST: &str = "[package]\nname = \"mine\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";

/// A crate without a harness.
fn a_crate(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(directory.join("src")).expect("a directory");
    fs::write(directory.join("Cargo.toml"), MANIFEST).expect("a manifest");
    fs::write(directory.join("src/lib.rs"), "").expect("a library");
    directory
}

fn conformance(directory: &PathBuf, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-conformance"));
    command.arg("conformance").args(arguments).current_dir(directory).output().expect("the command")
}

#[test]
fn a_new_harness_is_an_example_that_compiles_with_another_name() {
    let directory = a_crate("new");
    let written = conformance(&directory, &["new", "redis"]);
    assert!(written.status.success(), "{written:?}");
    let harness = fs::read_to_string(directory.join("tests/conformance.rs")).expect("a harness");
    let example = include_str!("../../examples/harness.rs");
    assert_eq!(harness.replace("redis", "mine"), example);
    let manifest = fs::read_to_string(directory.join("Cargo.toml")).expect("a manifest");
    assert!(manifest.starts_with(MANIFEST) && manifest.contains("harness = false"), "{manifest}");
    let told = String::from_utf8_lossy(&written.stdout).into_owned();
    assert!(told.contains("tests/conformance.rs") && told.contains("[[test]]"), "{told}");
    fs::remove_dir_all(directory).expect("it is removed");
}

#[test]
fn a_harness_that_is_there_is_left_as_it_is() {
    let directory = a_crate("there");
    fs::create_dir_all(directory.join("tests")).expect("a directory");
    fs::write(directory.join("tests/conformance.rs"), "// mine").expect("a harness");
    let refused = conformance(&directory, &["new", "redis"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("exists"), "{refused:?}");
    assert_eq!(fs::read_to_string(directory.join("tests/conformance.rs")).expect("a harness"), "// mine");
    assert_eq!(fs::read_to_string(directory.join("Cargo.toml")).expect("a manifest"), MANIFEST);
    fs::remove_dir_all(directory).expect("it is removed");
}
