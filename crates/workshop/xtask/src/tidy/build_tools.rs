//! A fresh clone builds with a Rust toolchain and a C compiler: no crate of the default build asks for another tool.

use super::problem::Problem;
use crate::repository::Repository;

/// Crates that need a tool, and the tool.
const DENIED: &[(&str, &str)] = &[
    ("autotools", "autotools"),
    ("bindgen", "libclang"),
    ("cmake", "cmake"),
    ("openssl-sys", "the system's OpenSSL"),
    ("prost-build", "protoc"),
    ("protobuf-codegen", "protoc"),
    ("protobuf-src", "cmake and a C++ compiler"),
    ("protoc-bin-vendored", "a vendored protoc"),
    ("tonic-build", "protoc"),
];

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let mut problems = Vec::new();
    for built in &repository.default_build {
        let denied = DENIED.iter().find(|(name, _)| *name == built.name);
        if let Some((name, tool)) = denied {
            problems.push(Problem::new(
                "Cargo.lock",
                format!(
                    "the default build needs {tool} for {name} ({}); put it behind a feature, or take a crate that ships what it generates",
                    built.chain.join(" → ")
                ),
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Built;

    fn repository(chain: &[&str]) -> Repository {
        let chain: Vec<String> = chain.iter().map(|name| (*name).to_owned()).collect();
        let name = chain.last().cloned().unwrap_or_default();
        Repository { default_build: vec![Built { name, chain }], ..Repository::default() }
    }

    #[test]
    fn an_ordinary_dependency_is_fine() {
        assert_eq!(check(&repository(&["partitura", "serde"])), []);
    }

    #[test]
    fn a_crate_that_needs_a_tool_is_reported_with_the_chain_to_it() {
        let found = check(&repository(&["partitura", "partitura-embedded", "some-client", "prost-build"]));
        assert_eq!(found.len(), 1);
        let text = found[0].to_string();
        assert!(text.contains("protoc") && text.contains("partitura-embedded → some-client → prost-build"), "{text}");
    }
}
