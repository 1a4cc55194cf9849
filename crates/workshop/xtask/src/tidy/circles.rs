//! Imports point one way: no file imports a file that imports it, directly or through others. So do the dependencies of
//! crates, those of their tests included: each can be published and verified after those that it needs.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::{self, Imports};
use super::problem::Problem;
use crate::repository::Repository;

/// Crates where files name each other for a reason that stays.
const RECURSIVE: &[(&str, &str)] =
    &[("crates/codec", "serde's traits call each other for the parts of a value, and so do their implementations")];

/// Arrows between files whose types name each other for a reason that stays: from, to, reason.
const RECURSIVE_TYPES: &[(&str, &str, &str)] = &[(
    "crates/workflow/src/workflow.rs",
    "crates/workflow/src/cx.rs",
    "the code of a workflow takes its context, and the context is one of a workflow",
)];

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let directories = repository.members.iter().map(|member| member.directory.as_str());
    directories.flat_map(|directory| of_crate(repository, directory)).chain(among_crates(repository)).collect()
}

/// The circles of crates. A crate that depends on itself chooses features for its tests, and is none.
fn among_crates(repository: &Repository) -> Vec<Problem> {
    let members: BTreeSet<&str> = repository.members.iter().map(|member| member.name.as_str()).collect();
    let arrows = repository.members.iter().map(|member| {
        let names = member.dependencies.iter().map(|dependency| &dependency.name).chain(&member.for_tests);
        let ours = names.filter(|name| members.contains(name.as_str()) && **name != member.name);
        (member.name.clone(), ours.cloned().collect())
    });
    let circle = |circle: &Vec<String>| {
        let way = circle.iter().chain(circle.first()).map(String::as_str).collect::<Vec<_>>().join(" → ");
        let what = format!(
            "crates depend on each other in a circle, with their tests: {way}; move the tests that close it to a crate \
             above both, as crates/workshop/tests"
        );
        Problem::new("Cargo.toml", what)
    };
    circles(&arrows.collect()).iter().map(circle).collect()
}

/// The circles of a crate and of its programs.
fn of_crate(repository: &Repository, directory: &str) -> Vec<Problem> {
    let crate_itself = problems(repository, directory, &format!("{directory}/src"));
    let programs = programs(repository, directory).flat_map(|root| problems(repository, root, root));
    crate_itself.into_iter().chain(programs).collect()
}

/// The directories of this crate's programs of several files: examples, tests and binaries.
fn programs<'a>(repository: &'a Repository, directory: &'a str) -> impl Iterator<Item = &'a str> {
    let roots = repository.files.keys().filter_map(|file| file.strip_suffix("/main.rs"));
    roots.filter(move |root| {
        let below = root.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'));
        below.is_some_and(|rest| rest != "src")
    })
}

/// Checks the files below `root`: those of the crate in `directory`, or of one of its programs.
fn problems(repository: &Repository, directory: &str, root: &str) -> Vec<Problem> {
    let mut imports = modules::imports(repository, root);
    for (from, to, _) in RECURSIVE_TYPES {
        if let Some(imported) = imports.get_mut(*from) {
            imported.remove(*to);
        }
    }
    let circles = circles(&imports);
    let may_stay = RECURSIVE.iter().any(|(known, _)| *known == directory);
    match (may_stay, circles.is_empty()) {
        (true, true) => {
            vec![Problem::new(directory, "has no circle any more; take it off the list in tidy/circles.rs")]
        }
        (true, false) => Vec::new(),
        (false, _) => circles.iter().map(|circle| problem(circle)).collect(),
    }
}

fn problem(circle: &[String]) -> Problem {
    let way = circle.iter().chain(circle.first()).map(String::as_str).collect::<Vec<_>>().join(" → ");
    Problem::new(
        circle.first().cloned().unwrap_or_default(),
        format!("imports run in a circle: {way}; move what the last takes from the first to a file of its own"),
    )
}

/// One shortest circle for each set of files that reach each other.
fn circles(imports: &Imports) -> Vec<Vec<String>> {
    let mut told = BTreeSet::new();
    let mut circles = Vec::new();
    for file in imports.keys() {
        if told.contains(file) {
            continue;
        }
        if let Some(circle) = shortest_way_back(imports, file) {
            let reached = reachable(imports, file);
            told.extend(reached.into_iter().filter(|other| reachable(imports, other).contains(file)));
            circles.push(circle);
        }
    }
    circles
}

fn reachable(imports: &Imports, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(file) = next.pop() {
        let new = imports.get(&file).into_iter().flatten().filter(|imported| reached.insert((*imported).clone()));
        next.extend(new.cloned().collect::<Vec<_>>());
    }
    reached
}

/// Searches breadth first, so that the circle is one of the shortest.
fn shortest_way_back(imports: &Imports, from: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<String, String> = BTreeMap::new();
    let mut level = vec![from.to_owned()];
    while !level.is_empty() {
        let mut next = Vec::new();
        for file in level {
            for imported in imports.get(&file).into_iter().flatten() {
                if imported == from {
                    return Some(way(&came_from, from, file));
                }
                if !came_from.contains_key(imported) {
                    came_from.insert(imported.clone(), file.clone());
                    next.push(imported.clone());
                }
            }
        }
        level = next;
    }
    None
}

fn way(came_from: &BTreeMap<String, String>, from: &str, last: String) -> Vec<String> {
    let mut way = vec![last];
    while let Some(before) = way.last().filter(|file| *file != from).and_then(|file| came_from.get(file)) {
        way.push(before.clone());
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(arrows: &[(&str, &str)]) -> Imports {
        let mut imports = Imports::new();
        for (from, to) in arrows {
            imports.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            imports.entry((*to).to_owned()).or_default();
        }
        imports
    }

    fn repository(directory: &str, text: &str) -> Repository {
        let member = crate::repository::Member { directory: directory.to_owned(), ..Default::default() };
        let file = |name: &str, text: &str| (format!("{directory}/src/{name}"), text.to_owned());
        let files = [file("lib.rs", "mod a; fn f() { a::g() }"), file("a.rs", text)].into();
        Repository { members: vec![member], files, ..Repository::default() }
    }

    #[test]
    fn a_circle_of_an_example_is_a_problem() {
        let file = |name: &str, text: &str| (format!("crates/new/examples/shop/{name}"), text.to_owned());
        let [main, a] = [("main.rs", "mod a; fn f() { a::g() }"), ("a.rs", "pub fn g() { crate::f() }")];
        let mut repository = repository("crates/new", "pub(crate) fn g() {}");
        repository.files.extend([file(main.0, main.1), file(a.0, a.1)]);
        assert_eq!(check(&repository).len(), 1);
    }

    #[test]
    fn a_circle_is_a_problem_and_so_is_a_listed_crate_without_one() {
        let circular = "pub(crate) fn g() { crate::f() }";
        assert_eq!(check(&repository("crates/new", circular)).len(), 1);
        assert_eq!(check(&repository("crates/new", "")), []);
        assert_eq!(check(&repository(RECURSIVE[0].0, circular)), []);
        assert_eq!(check(&repository(RECURSIVE[0].0, "")).len(), 1);
    }

    #[test]
    fn crates_may_not_need_each_other_in_a_circle_that_only_tests_close() {
        let member = |name: &str, uses: &str, for_tests: &str| crate::repository::Member {
            name: name.to_owned(),
            dependencies: vec![crate::repository::Dependency { name: uses.to_owned(), optional: false }],
            for_tests: vec![for_tests.to_owned()],
            ..Default::default()
        };
        let with = |members| Repository { members, ..Repository::default() };
        let found = among_crates(&with(vec![
            member("lanes", "contract", "embedded"),
            member("suite", "lanes", "serde"),
            member("embedded", "contract", "suite"),
            member("contract", "serde", "serde"),
        ]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].to_string().contains("embedded → suite → lanes → embedded"), "{found:?}");
        let of_itself = with(vec![member("facade", "contract", "facade"), member("contract", "serde", "serde")]);
        assert_eq!(among_crates(&of_itself), []);
    }

    #[test]
    fn arrows_that_point_one_way_are_fine() {
        assert_eq!(circles(&imports(&[("a", "b"), ("a", "c"), ("b", "c")])), Vec::<Vec<String>>::new());
    }

    #[test]
    fn a_circle_is_told_once_by_its_shortest_way() {
        let found = circles(&imports(&[("a", "b"), ("b", "c"), ("c", "a"), ("b", "a"), ("d", "a")]));
        assert_eq!(found, [["a", "b"]]);
        let text = problem(&found[0]).to_string();
        assert!(text.contains("a → b → a"), "{text}");
    }
}
