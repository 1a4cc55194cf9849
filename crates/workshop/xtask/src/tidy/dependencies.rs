//! Each crate uses only what its row of the table allows, and the facade's adapters are optional.

use super::dependency_table::{ADAPTERS, CLIENTS, FACADE, ROWS, Row};
use super::problem::Problem;
use crate::repository::{Member, Repository};

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let problems = repository.members.iter().flat_map(check_member);
    problems.chain(check_facade(repository)).collect()
}

fn row_of(directory: &str) -> Option<&'static Row> {
    let is_row = |row: &&Row| match row.directory.strip_suffix('*') {
        Some(parent) => directory.starts_with(parent),
        None => directory == row.directory,
    };
    ROWS.iter().find(is_row)
}

fn check_member(member: &Member) -> Vec<Problem> {
    let Some(row) = row_of(&member.directory) else {
        return vec![Problem::new(
            &member.directory,
            format!(
                "{} has no row in the dependency table; add one in crates/workshop/xtask/src/tidy/dependency_table.rs",
                member.name
            ),
        )];
    };
    let clients =
        CLIENTS.iter().filter(|(directory, _)| *directory == member.directory).flat_map(|(_, clients)| *clients);
    let allowed: Vec<&str> = row.may_use.iter().chain(clients).copied().collect();
    let forbidden = member.dependencies.iter().filter(|dependency| !allowed.contains(&dependency.name.as_str()));
    forbidden
        .map(|dependency| {
            Problem::new(
                format!("{}/Cargo.toml", member.directory),
                format!(
                    "{} depends on {}, but {}; it may use {}. Drop the dependency, or record the decision in docs/adr and \
                     change crates/workshop/xtask/src/tidy/dependency_table.rs",
                    member.name,
                    dependency.name,
                    row.because,
                    allowed.join(", ")
                ),
            )
        })
        .collect()
}

fn check_facade(repository: &Repository) -> Vec<Problem> {
    let adapters: Vec<&str> = repository
        .members
        .iter()
        .filter(|member| member.directory.starts_with(ADAPTERS))
        .map(|member| member.name.as_str())
        .collect();
    let facade = repository.members.iter().filter(|member| member.directory == FACADE);
    facade
        .flat_map(|member| &member.dependencies)
        .filter(|dependency| adapters.contains(&dependency.name.as_str()) && !dependency.optional)
        .map(|dependency| {
            Problem::new(
                format!("{FACADE}/Cargo.toml"),
                format!("{} must be optional and behind a feature: write `optional = true`", dependency.name),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Dependency;

    fn member(directory: &str, name: &str, dependencies: &[&str]) -> Member {
        let dependencies =
            dependencies.iter().map(|name| Dependency { name: (*name).to_owned(), optional: false }).collect();
        Member { name: name.to_owned(), directory: directory.to_owned(), dependencies, ..Member::default() }
    }

    fn problems(members: Vec<Member>) -> Vec<String> {
        let repository = Repository { members, ..Repository::default() };
        check(&repository).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_crate_may_use_what_its_row_allows() {
        assert_eq!(problems(vec![member("crates/workflow", "partitura-workflow", &["serde", "uuid"])]), [""; 0]);
    }

    #[test]
    fn an_adapter_may_use_its_own_client_and_no_other() {
        assert_eq!(problems(vec![member("adapters/embedded", "partitura-embedded", &["rusqlite", "tokio"])]), [""; 0]);
        assert_eq!(problems(vec![member("adapters/other", "partitura-other", &["rusqlite"])]).len(), 1);
    }

    #[test]
    fn a_forbidden_dependency_is_named_with_its_crate_and_the_rule() {
        let found = problems(vec![member("crates/workflow", "partitura-workflow", &["serde", "tokio"])]);
        assert_eq!(found.len(), 1, "{found:?}");
        for part in ["crates/workflow/Cargo.toml", "partitura-workflow depends on tokio", "no clock", "docs/adr"] {
            assert!(found[0].contains(part), "{part} is missing in {}", found[0]);
        }
    }

    #[test]
    fn an_adapter_never_knows_the_engine_or_another_adapter() {
        let found =
            problems(vec![member("adapters/embedded", "partitura-embedded", &["partitura-engine", "partitura-nats"])]);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_crate_without_a_row_is_reported() {
        let found = problems(vec![member("crates/utils", "partitura-utils", &[])]);
        assert!(found[0].contains("no row"), "{found:?}");
    }

    #[test]
    fn an_adapter_that_is_not_optional_in_the_facade_is_reported() {
        let adapter = || member("adapters/embedded", "partitura-embedded", &[]);
        let mut facade = member(FACADE, "partitura", &["partitura-embedded", "serde"]);
        let found = problems(vec![adapter(), member(FACADE, "partitura", &["partitura-embedded", "serde"])]);
        assert!(found.len() == 1 && found[0].contains("optional = true"), "{found:?}");
        facade.dependencies[0].optional = true;
        assert_eq!(problems(vec![adapter(), facade]), [""; 0]);
    }

    #[test]
    fn no_directory_has_two_rows() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..index].iter().all(|other| other.directory != row.directory), "{}", row.directory);
        }
    }
}
