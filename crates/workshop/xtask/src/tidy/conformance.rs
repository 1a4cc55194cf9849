//! The conformance suite, its specification and the contract name the same cases.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::Problem;
use crate::repository::Repository;

const PAGE: &str = "docs/conformance.md";
const CASES: &str = "conformance/src/cases/";
const CONTRACT: &str = "crates/broker/src/";
/// Cases of the layers above the contract, which the contract does not promise.
const ABOVE: &[&str] =
    &["conformance/src/cases/lanes.rs", "conformance/src/cases/dead.rs", "conformance/src/cases/poison.rs"];

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let cases = cases(repository);
    if cases.is_empty() {
        return Vec::new();
    }
    let Some(page) = repository.files.get(PAGE) else {
        return vec![Problem::new(PAGE, "there is no such file; write it, with a row for each case")];
    };
    let mut problems = Vec::new();
    for (id, case) in &cases {
        let row = case.row(id);
        if !page.lines().any(|line| line.trim_end() == row) {
            problems.push(Problem::new(PAGE, format!("lacks the row of {}, which is\n{row}", case.file)));
        }
    }
    for id in page.lines().filter_map(row_id).filter(|id| !cases.contains_key(*id)) {
        problems.push(Problem::new(PAGE, format!("has a row of {id}, and there is no such case in {CASES}")));
    }
    problems.extend(contract(repository, &cases));
    problems
}

/// Checks that every case which the contract names exists, and that it names every case.
fn contract(repository: &Repository, cases: &BTreeMap<String, Case>) -> Vec<Problem> {
    let mut promised = BTreeSet::new();
    let mut problems = Vec::new();
    for (path, text) in repository.files.iter().filter(|(path, _)| path.starts_with(CONTRACT)) {
        for id in promises(text) {
            if !cases.contains_key(&id) {
                problems.push(Problem::new(path, format!("promises {id}, and there is no such case in {CASES}")));
            }
            promised.insert(id);
        }
    }
    for (id, case) in cases.iter().filter(|(id, _)| !promised.contains(*id)) {
        if !ABOVE.contains(&case.file.as_str()) {
            let what =
                format!("tries {id}, which no `Conformance:` line in {CONTRACT} promises; name it where it belongs");
            problems.push(Problem::new(&case.file, what));
        }
    }
    problems
}

struct Case {
    file: String,
    tier: &'static str,
    needs: String,
    property: String,
}

impl Case {
    fn row(&self, id: &str) -> String {
        let needs = if self.needs.is_empty() { "–" } else { &self.needs };
        format!("| `{id}` | {} | {} | {needs} |", self.property, self.tier)
    }
}

/// Every `case!("id", Tier, [Needs], "property", …)`.
fn cases(repository: &Repository) -> BTreeMap<String, Case> {
    let files = repository.files.iter().filter(|(path, _)| path.starts_with(CASES));
    let of_file = |(path, text): (&String, &String)| {
        text.split("case!(").skip(1).filter_map(|call| case(path, call)).collect::<Vec<_>>()
    };
    files.flat_map(of_file).collect()
}

fn case(file: &str, call: &str) -> Option<(String, Case)> {
    let (id, rest) = literal(call)?;
    let (between, rest) = rest.split_at(rest.find(']')?);
    let (tier, needs) = between.split_once('[')?;
    let (property, _) = literal(rest)?;
    let tier = match tier.trim_matches(|character: char| !character.is_alphanumeric()) {
        "One" => "1",
        "Two" => "2",
        "Three" => "3",
        "Four" => "4",
        _ => return None,
    };
    let needs = needs.split(',').map(|need| need.trim().to_lowercase()).filter(|need| !need.is_empty());
    let needs = needs.collect::<Vec<_>>().join(", ");
    Some((id.to_owned(), Case { file: file.to_owned(), tier, needs, property: property.to_owned() }))
}

/// Returns the next string literal and the text after it. Ids and properties contain no escapes.
fn literal(text: &str) -> Option<(&str, &str)> {
    text.split_once('"')?.1.split_once('"')
}

/// The id of a row of the table.
fn row_id(line: &str) -> Option<&str> {
    let id = line.strip_prefix("| `")?.split_once('`')?.0;
    is_id(id).then_some(id)
}

/// The ids behind `Conformance:`, up to the end of the sentence.
fn promises(text: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for (_, after) in text.match_indices("Conformance: `").map(|(at, found)| text.split_at(at + found.len() - 1)) {
        let sentence: String = after.lines().map(|line| line.trim_start().trim_start_matches("/// ")).collect();
        let end = sentence.find("`.").map_or(sentence.len(), |end| end + 1);
        ids.extend(sentence[..end].split('`').filter(|part| is_id(part)).map(str::to_owned));
    }
    ids
}

fn is_id(text: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    text.split_once('.').is_some_and(|(area, name)| part(area) && part(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(code: &str, page: &str, contract: &str) -> Vec<String> {
        let mut repository = Repository::default();
        for (path, text) in [(format!("{CASES}a.rs"), code), (PAGE.into(), page), (format!("{CONTRACT}b.rs"), contract)]
        {
            repository.files.insert(path, text.to_owned());
        }
        check(&repository).iter().map(ToString::to_string).collect()
    }

    const CODE: &str = "case!(\n    \"a.b_c\",\n    Two,\n    [Processes, Durability],\n    \"it holds\",\n    run,\n)";
    const ROW: &str = "| `a.b_c` | it holds | 2 | processes, durability |";

    #[test]
    fn a_case_that_is_written_down_and_promised_passes() {
        assert_eq!(problems(CODE, ROW, "/// Conformance: `a.b_c`.\n"), [""; 0]);
        assert_eq!(problems(CODE, ROW, "/// Conformance: `a.b_c`,\n    /// `a.b_c`.\nfn f() { `x.y` }"), [""; 0]);
    }

    #[test]
    fn a_row_that_differs_is_given_as_it_should_be() {
        let found = problems(CODE, "| `a.b_c` | it holds | 1 | – |", "/// Conformance: `a.b_c`.");
        assert!(found.len() == 1 && found[0].contains(ROW), "{found:?}");
    }

    #[test]
    fn a_row_and_a_promise_without_a_case_are_found() {
        let found =
            problems(CODE, &format!("{ROW}\n| `a.gone` | x | 1 | – |"), "/// Conformance: `a.b_c`,\n/// `a.lost`.");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("a row of a.gone") && found[1].contains("promises a.lost"), "{found:?}");
    }

    #[test]
    fn a_case_that_nobody_promises_is_found() {
        let found = problems(CODE, ROW, "");
        assert!(found.len() == 1 && found[0].contains("which no `Conformance:` line"), "{found:?}");
    }
}
