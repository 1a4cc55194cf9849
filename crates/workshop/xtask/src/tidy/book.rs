//! The book has every page of `docs/`, and the Rust code of each page is compiled by the tests.

use super::problem::Problem;
use crate::repository::Repository;

/// The list of pages, from which mdBook builds the book.
pub(crate) const SUMMARY: &str = "docs/SUMMARY.md";
/// `cargo xtask book` adds the decisions to the list.
pub(crate) const DECISIONS: &str = "docs/adr/";

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let Some(summary) = repository.files.get(SUMMARY) else {
        return vec![Problem::new(SUMMARY, "it is missing; the book is built from it")];
    };
    let listed = |page: &str| page.strip_prefix("docs/").is_some_and(|page| summary.contains(&format!("]({page})")));
    let sources: String =
        repository.files.iter().filter(|(path, _)| path.ends_with(".rs")).map(|(_, text)| &**text).collect();
    let pages = repository.files.iter().filter(|(path, _)| path.starts_with("docs/") && path.ends_with(".md"));
    let mut problems = Vec::new();
    for (page, text) in pages.filter(|(page, _)| *page != SUMMARY) {
        if !listed(page) && (!page.starts_with(DECISIONS) || page.ends_with("README.md")) {
            problems.push(Problem::new(page, format!("it is not in the book; add it to {SUMMARY}")));
        }
        let code = code_lines(text);
        if let Some(line) = code.iter().find(|(_, fence)| fence.contains("ignore")).map(|(line, _)| line) {
            problems.push(Problem::new(format!("{page}:{line}"), "code that is ignored may be wrong; write `no_run`"));
        }
        if !code.is_empty() && !sources.contains(&format!("/{page}\")]")) {
            let what = "its Rust code is not compiled; include the page in a crate, as `mod guides` of the facade does";
            problems.push(Problem::new(page, what));
        }
    }
    problems
}

/// The lines on which Rust code begins, with what stands there.
fn code_lines(text: &str) -> Vec<(usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| line.starts_with("```rust")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(page: &str, summary: &str, source: &str) -> Vec<String> {
        let mut repository = Repository::default();
        for (path, text) in [("docs/page.md", page), (SUMMARY, summary), ("crates/a/src/lib.rs", source)] {
            repository.files.insert(path.to_owned(), text.to_owned());
        }
        check(&repository).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_page_of_the_book_whose_code_is_compiled_passes() {
        let source = r#"#[doc = include_str!("../../../docs/page.md")]"#;
        assert_eq!(problems("```rust,no_run\nf();\n```", "[Page](page.md)", source), [""; 0]);
        assert_eq!(problems("no code", "[Page](page.md)", ""), [""; 0]);
    }

    #[test]
    fn a_page_that_is_left_out_and_code_that_nothing_compiles_are_reported() {
        let found = problems("text\n```rust,ignore\nf();\n```", "", "");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("not in the book") && found[1].starts_with("docs/page.md:2"), "{found:?}");
    }
}
