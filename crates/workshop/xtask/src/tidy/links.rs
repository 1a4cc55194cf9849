//! Links between the pages, and from them into the tree, have a target.

use super::problem::Problem;
use crate::repository::Repository;

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (page, text) in repository.files.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (line, target) in targets(text) {
            let leads = resolve(page, target).is_none_or(|path| path.is_empty() || repository.paths.contains(&path));
            if !leads {
                problems.push(Problem::new(
                    format!("{page}:{line}"),
                    format!("the link to {target} has no target; mend or drop it"),
                ));
            }
        }
    }
    problems
}

/// The targets of the links of a page, with their lines; code is skipped.
pub(crate) fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            found.extend(targets_in(line).into_iter().map(|target| (number + 1, target)));
        }
    }
    found
}

fn targets_in(line: &str) -> Vec<&str> {
    // A definition, `[name]: target`, else the inline links.
    if let Some((_, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
        return target.split_whitespace().take(1).collect();
    }
    let outside_code = line.split('`').step_by(2);
    // `](` is cut in two where the link's text ends in code: "[`text`](target)" leaves "](target)".
    let parts = outside_code.flat_map(|part| part.split("](").skip(1));
    parts.filter_map(|rest| rest.split([')', ' ']).next()).collect()
}

/// Returns the path below the root that a link leads to; `None` if it leads out of the repository.
pub(crate) fn resolve(page: &str, target: &str) -> Option<String> {
    let path = target.split('#').next().unwrap_or_default();
    if path.contains("://") || path.starts_with("mailto:") {
        return None;
    }
    let mut parts: Vec<&str> = if path.is_empty() {
        page.split('/').collect()
    } else if path.starts_with('/') {
        Vec::new()
    } else {
        page.split('/').take(page.matches('/').count()).collect()
    };
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut repository = Repository::default();
        repository.files.insert("docs/page.md".to_owned(), text.to_owned());
        for path in ["README.md", "docs", "docs/page.md", "docs/adr", "docs/adr/README.md", "crates/broker/src/lib.rs"]
        {
            repository.paths.insert(path.to_owned());
        }
        check(&repository).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let text = "[a](../README.md), [b](adr/), [c](adr/README.md#top \"title\"), [`d`](../crates/broker/src/lib.rs)\n\
                    [here](#here), [root](..), [slash](/README.md), [web](https://example.org/x.md), ![mail](mailto:a@b)\n\
                    [name]: adr/README.md\n";
        assert_eq!(problems(text), [""; 0]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_reported_with_its_line() {
        let found = problems("fine\n\n[a](adr/0001-gone.md) and [`b`](../crates/gone)\n[name]: gone.md\n");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("docs/page.md:3: the link to adr/0001-gone.md"), "{found:?}");
    }

    #[test]
    fn code_has_no_links() {
        assert_eq!(problems("`a[0](gone)`\n```rust\nlet x = y[0](gone);\n```\n"), [""; 0]);
    }
}
