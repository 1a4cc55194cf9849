//! Every adapter has the same files; see the section "The floor plan" of docs/guides/write-an-adapter.md.

use super::problem::Problem;
use crate::repository::Repository;

/// The files below `src/`, beside the one that has the broker's name. An entry may also be a directory of this name.
const FILES: &[&str] = &[
    "options", "error", "names", "wire", "client", "core", "topics", "topology", "delay", "producer", "claim",
    "claims", "inbox",
];

/// Files that an adapter does not need, with the reason: adapter, file, reason.
const WITHOUT: &[(&str, &str, &str)] = &[
    ("adapters/embedded", "names", "it stores our names as they are"),
    ("adapters/embedded", "claims", "its state decides about owners, so that consumer.rs needs no claims"),
    ("adapters/embedded", "claim", "see claims"),
];

/// Adapters with another plan. One leaves this list when it has the files.
const PENDING: &[&str] = &[];

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let directories = repository.members.iter().map(|member| member.directory.as_str());
    let adapters = directories.filter(|directory| directory.starts_with("adapters/"));
    adapters.flat_map(|adapter| problems(repository, adapter, PENDING.contains(&adapter))).collect()
}

fn problems(repository: &Repository, adapter: &str, is_pending: bool) -> Vec<Problem> {
    let missing = missing(repository, adapter);
    match (is_pending, missing.is_empty()) {
        (true, true) => vec![Problem::new(adapter, "has all files; take it off the list in tidy/floor_plan.rs")],
        (true, false) => Vec::new(),
        (false, _) => missing
            .into_iter()
            .map(|file| {
                let text = "is missing; docs/guides/write-an-adapter.md says what belongs there. If the adapter needs \
                            none, add it to the list in tidy/floor_plan.rs with the reason";
                Problem::new(format!("{adapter}/src/{file}.rs"), text)
            })
            .collect(),
    }
}

fn missing<'a>(repository: &Repository, adapter: &'a str) -> Vec<&'a str> {
    let broker = adapter.rsplit('/').next();
    let is_needed = |file: &str| !WITHOUT.iter().any(|(without, name, _)| *without == adapter && *name == file);
    let exists = |file: &str| {
        let path = format!("{adapter}/src/{file}");
        [".rs", "/mod.rs"].iter().any(|end| repository.files.contains_key(&format!("{path}{end}")))
    };
    FILES.iter().copied().chain(broker).filter(|file| is_needed(file) && !exists(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Member;

    fn repository(adapter: &str, files: &[&str]) -> Repository {
        let member = Member { directory: adapter.to_owned(), ..Member::default() };
        let files = files.iter().map(|file| (format!("{adapter}/src/{file}"), String::new()));
        Repository { members: vec![member], files: files.collect(), ..Repository::default() }
    }

    fn complete() -> Vec<String> {
        FILES.iter().filter(|file| **file != "claim").map(|file| format!("{file}.rs")).collect()
    }

    #[test]
    fn a_missing_file_is_a_problem_and_a_directory_takes_its_place() {
        let complete = complete();
        let mut files: Vec<&str> = complete.iter().map(String::as_str).collect();
        files.push("mine.rs");
        let found = check(&repository("adapters/mine", &files));
        assert_eq!(found.iter().map(|problem| &*problem.place).collect::<Vec<_>>(), ["adapters/mine/src/claim.rs"]);
        files.push("claim/mod.rs");
        assert_eq!(check(&repository("adapters/mine", &files)), []);
        assert_eq!(check(&repository("adapters/yours", &files)).len(), 1, "the file of the broker");
    }

    #[test]
    fn an_adapter_with_another_plan_is_to_leave_the_list_when_it_has_the_files() {
        let found = |files: &[&str]| problems(&repository("adapters/mine", files), "adapters/mine", true).len();
        assert_eq!(found(&["mine.rs"]), 0);
        let complete = complete();
        let files = complete.iter().map(String::as_str).chain(["claim.rs", "mine.rs"]).collect::<Vec<_>>();
        assert_eq!(found(&files), 1);
    }

    #[test]
    fn other_crates_have_no_plan() {
        assert_eq!(check(&repository("crates/mine", &[])), []);
    }
}
