//! The pages and the workspace state the same toolchain.

use super::problem::Problem;
use crate::repository::Repository;

const PAGES: &[&str] = &["README.md", "CONTRIBUTING.md"];

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    PAGES.iter().filter_map(|page| check_page(repository, page)).collect()
}

fn check_page(repository: &Repository, page: &str) -> Option<Problem> {
    let expected = &repository.rust_version;
    let Some(text) = repository.files.get(page) else {
        return Some(Problem::new(page, "there is no such file; write it, and state the oldest toolchain in it"));
    };
    let stated = versions(text);
    if stated.is_empty() {
        return Some(Problem::new(
            page,
            format!("states no toolchain; say `Rust {expected}`, as rust-version in Cargo.toml does"),
        ));
    }
    let wrong = stated.into_iter().find(|version| version != expected)?;
    Some(Problem::new(page, format!("says Rust {wrong}, but rust-version in Cargo.toml is {expected}; make them one")))
}

/// Every `1.95` in a `Rust 1.95`.
fn versions(text: &str) -> Vec<String> {
    let version = |after: &str| {
        let mut parts = after.split(|character: char| !character.is_ascii_digit());
        let (major, minor) = (parts.next()?, parts.next()?);
        (after.starts_with("1.") && !minor.is_empty()).then(|| format!("{major}.{minor}"))
    };
    text.match_indices("Rust ").filter_map(|(at, found)| version(&text[at + found.len()..])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: Option<&str>) -> Vec<String> {
        let mut repository = Repository { rust_version: "1.95".to_owned(), ..Repository::default() };
        for page in PAGES {
            repository.files.extend(text.map(|text| ((*page).to_owned(), text.to_owned())));
        }
        check(&repository).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pages_that_state_the_workspace_s_toolchain_pass() {
        assert_eq!(problems(Some("Plain Rust. Needs Rust 1.95 or newer, Rust 1.95.")), [""; 0]);
    }

    #[test]
    fn another_toolchain_no_toolchain_and_no_page_are_reported() {
        assert!(
            problems(Some("Needs Rust 1.94."))[0].contains("says Rust 1.94, but rust-version in Cargo.toml is 1.95")
        );
        assert!(problems(Some("Needs Rust 1.9 or newer."))[0].contains("says Rust 1.9,"));
        assert!(problems(Some("Plain Rust."))[0].contains("states no toolchain"));
        assert_eq!(problems(None).len(), 2);
    }
}
