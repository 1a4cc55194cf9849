//! The code map of docs/architecture.md agrees with the tree: every crate has its line, and every line its crate.

use std::collections::BTreeSet;

use super::problem::Problem;
use crate::repository::Repository;

const PAGE: &str = "docs/architecture.md";
const SECTION: &str = "## Code map";

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let Some(text) = repository.files.get(PAGE) else {
        return vec![Problem::new(PAGE, "there is no such file; write it, with a section `## Code map`")];
    };
    let Some(section) = section(text) else {
        return vec![Problem::new(PAGE, format!("has no section `{SECTION}`; add it, with a line for each crate"))];
    };
    let named = named(section);
    let there: BTreeSet<&str> = repository
        .members
        .iter()
        .map(|member| member.directory.as_str())
        .filter(|directory| directory.starts_with("crates/") || directory.starts_with("adapters/"))
        .collect();
    let missing =
        there.difference(&named).map(|directory| format!("the code map does not name {directory}; add its line"));
    let gone = named
        .difference(&there)
        .map(|directory| format!("the code map names {directory}, which is no crate; drop its line"));
    missing.chain(gone).map(|what| Problem::new(PAGE, what)).collect()
}

fn section(text: &str) -> Option<&str> {
    let (_, after) = text.split_once(SECTION)?;
    Some(after.split_once("\n## ").map_or(after, |(section, _)| section))
}

/// Finds every `crates/x`, `crates/workshop/x` and `adapters/x`, without the rest of a longer path.
fn named(section: &str) -> BTreeSet<&str> {
    let is_path = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '/' | '.');
    let paths = section.split(|character| !is_path(character));
    paths.filter_map(directory).collect()
}

fn directory(path: &str) -> Option<&str> {
    let path = path.trim_start_matches("../");
    let parent = ["crates/workshop/", "crates/", "adapters/"].into_iter().find(|parent| path.starts_with(parent))?;
    let name = path[parent.len()..].split('/').next()?;
    (!name.is_empty() && !name.contains('.')).then(|| &path[..parent.len() + name.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Member;

    fn problems(page: Option<&str>) -> Vec<String> {
        let mut repository = Repository::default();
        repository.files.extend(page.map(|text| (PAGE.to_owned(), text.to_owned())));
        for directory in ["crates/broker", "adapters/embedded", "benches"] {
            repository.members.push(Member { directory: directory.to_owned(), ..Member::default() });
        }
        check(&repository).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_map_that_names_every_crate_passes() {
        let page = "# Architecture\n\n## Code map\n* [`crates/broker`](../crates/broker/src/lib.rs): the contract\n* `adapters/embedded`\n\n## Next\ncrates/gone\n";
        assert_eq!(problems(Some(page)), [""; 0]);
    }

    #[test]
    fn a_crate_that_is_missing_and_a_line_that_lies_are_reported() {
        let found = problems(Some("## Code map\n`crates/broker`, `crates/brokers`\n"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("does not name adapters/embedded") && found[1].contains("names crates/brokers"),
            "{found:?}"
        );
    }

    #[test]
    fn a_page_without_a_map_and_no_page_are_reported() {
        assert!(problems(Some("# Architecture\n"))[0].contains("no section"));
        assert!(problems(None)[0].contains("no such file"));
    }
}
