//! `cargo xtask tidy`: the repository's rules that no compiler knows.
//!
//! A check is a function from the [`Repository`] to the problems that it found.

pub(crate) mod book;
mod build_tools;
mod circles;
mod code_map;
mod conformance;
mod decisions;
mod dependencies;
mod dependency_table;
mod english;
mod features;
mod floor_plan;
mod licences;
pub(crate) mod links;
mod modules;
mod names;
mod problem;
mod sizes;
mod source;
mod toolchain;

use self::problem::Problem;
use crate::failure::Failure;
use crate::repository::Repository;

struct Check {
    name: &'static str,
    run: fn(&Repository) -> Vec<Problem>,
}

const CHECKS: &[Check] = &[
    Check { name: "dependencies", run: dependencies::check },
    Check { name: "licences", run: licences::check },
    Check { name: "build tools", run: build_tools::check },
    Check { name: "names", run: names::check },
    Check { name: "toolchain", run: toolchain::check },
    Check { name: "code map", run: code_map::check },
    Check { name: "decisions", run: decisions::check },
    Check { name: "circles", run: circles::check },
    Check { name: "floor plan", run: floor_plan::check },
    Check { name: "english", run: english::check },
    Check { name: "sizes", run: sizes::check },
    Check { name: "links", run: links::check },
    Check { name: "book", run: book::check },
    Check { name: "conformance", run: conformance::check },
    Check { name: "features", run: features::check },
];

/// Runs every check on the repository and prints all problems.
pub(crate) fn run() -> Result<(), Failure> {
    let repository = Repository::load()?;
    let mut count = 0;
    for check in CHECKS {
        for problem in (check.run)(&repository) {
            println!("[{}] {problem}", check.name);
            count += 1;
        }
    }
    let (checks, crates, files) = (CHECKS.len(), repository.members.len(), repository.files.len());
    if count > 0 {
        return Err(format!("tidy found {count} problem(s) in {crates} crates and {files} files").into());
    }
    println!("tidy: {checks} checks on {crates} crates and {files} files, no problem");
    Ok(())
}
