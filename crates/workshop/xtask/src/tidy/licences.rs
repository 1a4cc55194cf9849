//! Every dependency may be used, by its licence, and there is one TLS stack. This needs no tool and no network.

use super::problem::Problem;
use crate::repository::{Foreign, Repository};

/// Licences under which a dependency may be used in a program of any licence, without more than a notice.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages that must not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "TLS is rustls on ring: drop the feature that chooses another provider"),
    ("aws-lc-sys", "TLS is rustls on ring: drop the feature that chooses another provider"),
    ("native-tls", "TLS is rustls on ring: drop the feature that chooses the system's"),
    ("openssl", "TLS is rustls on ring; only the client library in C links the system's OpenSSL"),
];

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    repository.foreign.iter().filter_map(check_one).collect()
}

fn check_one(Foreign { name, version, licence }: &Foreign) -> Option<Problem> {
    if let Some((_, why)) = BANNED.iter().find(|(banned, _)| banned == name) {
        return Some(Problem::new("Cargo.lock", format!("{name} {version}: {why}")));
    }
    let what = match licence {
        None => "states no licence".to_owned(),
        Some(licence) if may_be_used(licence) => return None,
        Some(licence) => format!("is under {licence}, which is not among those that the check allows"),
    };
    let instead = "use another crate, or record the decision in docs/adr and change tidy/licences.rs";
    Some(Problem::new("Cargo.lock", format!("{name} {version} {what}; {instead}")))
}

/// Whether an SPDX expression leaves a choice that is allowed. Old ones write `/` for `OR`.
fn may_be_used(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    any(&mut words)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>) -> bool {
    let mut is_allowed = all(words);
    while words.next_if_eq(&"OR").is_some() {
        is_allowed |= all(words);
    }
    is_allowed
}

fn all(words: &mut Words<'_>) -> bool {
    let mut is_allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        is_allowed &= one(words);
    }
    is_allowed
}

fn one(words: &mut Words<'_>) -> bool {
    match words.next() {
        Some("(") => {
            let is_allowed = any(words);
            words.next_if_eq(&")").is_some() && is_allowed
        }
        Some(name) if words.next_if_eq(&"WITH").is_some() => {
            let exception = words.next().unwrap_or_default();
            LICENCES.contains(&&*format!("{name} WITH {exception}"))
        }
        Some(name) => LICENCES.contains(&name),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_deny_is_told_the_same() {
        let told = include_str!("../../../../../deny.toml");
        let list = |name: &str| told.split_once(&format!("\n{name} = [")).and_then(|(_, rest)| rest.split(']').next());
        let quoted = |list: &'static str| list.split('"').skip(1).step_by(2).collect::<Vec<_>>();
        assert_eq!(list("allow").map(quoted), Some(LICENCES.to_vec()));
        let banned: Vec<&str> = BANNED.iter().map(|(name, _)| *name).collect();
        assert_eq!(list("deny").map(quoted), Some(banned));
    }

    #[test]
    fn an_expression_is_allowed_if_it_leaves_a_choice_that_is() {
        for allowed in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
            "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
        ] {
            assert!(may_be_used(allowed), "{allowed}");
        }
        for refused in
            ["GPL-3.0-only", "MIT AND GPL-3.0-only", "MIT WITH something", "", "(MIT", "LGPL-2.1 OR SSPL-1.0"]
        {
            assert!(!may_be_used(refused), "{refused}");
        }
    }

    #[test]
    fn a_dependency_without_a_good_licence_and_a_second_tls_stack_are_reported() {
        let foreign = |name: &str, licence: Option<&str>| Foreign {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.map(str::to_owned),
        };
        let foreign = vec![
            foreign("fine", Some("MIT")),
            foreign("copyleft", Some("AGPL-3.0-only")),
            foreign("secret", None),
            foreign("native-tls", Some("MIT")),
        ];
        let found: Vec<String> =
            check(&Repository { foreign, ..Repository::default() }).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("copyleft 1.0.0 is under AGPL-3.0-only"), "{found:?}");
        assert!(found[1].contains("secret 1.0.0 states no licence"), "{found:?}");
        assert!(found[2].contains("rustls on ring"), "{found:?}");
    }
}
