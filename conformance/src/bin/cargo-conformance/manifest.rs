/// The dependencies of a harness, with their versions.
const NEEDS: &[(&str, &str)] = &[
    ("async-trait", "0.1"),
    ("partitura-broker", env!("CARGO_PKG_VERSION")),
    ("partitura-conformance", env!("CARGO_PKG_VERSION")),
];

/// The lines that a manifest lacks for a harness. Tables at the end of a file are right whatever is before them.
pub(crate) fn added(manifest: &str, in_container: bool) -> String {
    let mut added = String::new();
    if !declares_test(manifest) {
        added += "\n[[test]]\nname = \"conformance\"\nharness = false\n";
    }
    for (name, version) in NEEDS.iter().filter(|(name, _)| !depends_on(manifest, name)) {
        added += &format!("\n[dev-dependencies.{name}]\nversion = \"{version}\"\n");
        if in_container && *name == "partitura-conformance" {
            added += "features = [\"containers\"]\n";
        }
    }
    added
}

fn declares_test(manifest: &str) -> bool {
    let tests = manifest.split("[[test]]").skip(1);
    let own = |rest: &str| rest.split("\n[").next().unwrap_or_default().replace(' ', "");
    tests.map(own).any(|table| table.contains("name=\"conformance\""))
}

/// Whether the tests have a dependency: one of the crate that is always there, or one of tests.
fn depends_on(manifest: &str, name: &str) -> bool {
    let mut table = "";
    manifest.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            table = line;
        }
        let is_there = |kind: &str| {
            let is_entry = line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(['=', '.']));
            line == format!("[{kind}.{name}]") || (table == format!("[{kind}]") && is_entry)
        };
        // One of a feature may be absent.
        !line.contains("optional = true") && (is_there("dependencies") || is_there("dev-dependencies"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_gets_what_it_lacks_once() {
        let before = "[package]\nname = \"mine\"\n\n[dependencies]\npartitura-broker = \"0.1\"\n";
        let first = added(before, true);
        assert!(first.contains("[[test]]\nname = \"conformance\"\nharness = false\n"), "{first}");
        assert!(first.contains("[dev-dependencies.partitura-conformance]") && first.contains("containers"), "{first}");
        assert!(!first.contains("partitura-broker"), "{first}");
        assert_eq!(added(&(before.to_owned() + &first), true), "");
    }

    #[test]
    fn other_tests_and_names_that_begin_alike_do_not_count() {
        let manifest =
            "[[test]]\nname = \"it\"\n\n[package]\nname=\"conformance\"\n\n[dependencies]\nasync-trait-x = \"1\"\n";
        let patched =
            "\n[patch.crates-io]\nasync-trait = { path = \"x\" }\n[workspace.dependencies]\nasync-trait = \"0.1\"\n";
        let lines = added(&(manifest.to_owned() + patched), false);
        assert!(lines.contains("[[test]]") && lines.contains("[dev-dependencies.async-trait]"), "{lines}");
        assert!(!lines.contains("containers"), "{lines}");
    }
}
