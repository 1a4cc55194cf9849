//! Decisions are numbered from 0001 without a gap, and each is listed in docs/adr/README.md.

use super::problem::Problem;
use crate::repository::Repository;

const DIRECTORY: &str = "docs/adr/";
const INDEX: &str = "docs/adr/README.md";

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let names =
        repository.files.keys().filter_map(|path| path.strip_prefix(DIRECTORY)).filter(|name| *name != "README.md");
    let index = repository.files.get(INDEX).map(String::as_str).unwrap_or_default();
    let mut problems = Vec::new();
    // The files come sorted by name, so each one's number follows its predecessor's.
    let mut previous = 0;
    for name in names {
        let place = format!("{DIRECTORY}{name}");
        let Some(number) = number(name) else {
            problems.push(Problem::new(place, "is not called as a decision is: `0007-what-was-decided.md`"));
            continue;
        };
        // Decisions that are made at the same time have their numbers beforehand.
        if number <= previous {
            problems.push(Problem::new(&place, format!("comes after {previous:04}; call it {:04}-…", previous + 1)));
        }
        if !index.contains(&format!("]({name})")) {
            problems.push(Problem::new(place, format!("is not listed in {INDEX}; add a line that links to it")));
        }
        previous = number;
    }
    problems
}

fn number(name: &str) -> Option<u32> {
    let (number, title) = name.strip_suffix(".md")?.split_once('-')?;
    let is_title = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    (number.len() == 4 && !title.is_empty() && title.chars().all(is_title)).then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(names: &[&str], index: &str) -> Vec<String> {
        let mut repository = Repository::default();
        repository.files.insert(INDEX.to_owned(), index.to_owned());
        repository.files.extend(names.iter().map(|name| (format!("{DIRECTORY}{name}"), String::new())));
        check(&repository).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbered_and_listed_decisions_pass() {
        let index = "* [one](0001-one.md)\n* [two](0002-two-things.md)\n";
        assert_eq!(problems(&["0001-one.md", "0002-two-things.md"], index), [""; 0]);
        assert_eq!(problems(&[], ""), [""; 0]);
    }

    #[test]
    fn a_number_used_twice_is_reported() {
        let index = "[](0001-a.md) [](0003-c.md) [](0003-d.md)";
        let found = problems(&["0001-a.md", "0003-c.md", "0003-d.md"], index);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("call it 0004"), "{found:?}");
    }

    #[test]
    fn a_decision_that_is_not_listed_or_oddly_called_is_reported() {
        assert!(problems(&["0001-a.md"], "0001-a.md")[0].contains("not listed"));
        assert!(problems(&["1-a.md"], "")[0].contains("not called"));
        assert!(problems(&["0001_A.md"], "")[0].contains("not called"));
    }
}
