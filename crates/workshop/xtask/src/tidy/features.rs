//! The page of features names trials that exist, and at least one of each theme.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::Problem;
use crate::repository::Repository;

const PAGE: &str = "docs/features.md";
const TRIALS: &str = "crates/partitura/tests/on_every_broker/main.rs";

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let Some(trials) = repository.files.get(TRIALS).map(|text| trials(text)) else { return Vec::new() };
    let Some(page) = repository.files.get(PAGE) else {
        return vec![Problem::new(PAGE, "there is no such file; write it, with the trials of each feature")];
    };
    let named = named(page);
    let unknown = named.iter().filter(|(theme, trial)| !trials.get(*theme).is_some_and(|all| all.contains(trial)));
    let unknown =
        unknown.map(|(theme, trial)| format!("names {theme}::{trial}, and there is no such trial in {TRIALS}"));
    let silent = trials.keys().filter(|theme| !named.iter().any(|(of, _)| of == *theme));
    let silent = silent.map(|theme| format!("has no row with a trial of the theme {theme} of {TRIALS}; add one"));
    unknown.chain(silent).map(|what| Problem::new(PAGE, what)).collect()
}

/// The trials by theme: `theme: first, second;` within `trials![…]`.
fn trials(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let Some((_, list)) = text.rsplit_once("trials![") else { return BTreeMap::new() };
    let list = list.split_once(']').map_or(list, |(list, _)| list);
    let themes = list.split(';').filter_map(|theme| theme.split_once(':'));
    themes
        .map(|(theme, trials)| {
            let theme = theme.rsplit(',').next().unwrap_or(theme).trim();
            (theme, trials.split(',').map(str::trim).collect())
        })
        .collect()
}

/// Each `theme::trial` of the page.
fn named(page: &str) -> BTreeSet<(&str, &str)> {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let quoted = page.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted.filter_map(|name| name.split_once("::")).filter(|(a, b)| is_name(a) && is_name(b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "macro_rules! trials { }\ntrials![\n    backend,\n    one: a, b;\n    two: c;\n]\n";

    fn problems(page: &str) -> Vec<String> {
        let mut repository = Repository::default();
        for (path, text) in [(TRIALS, CODE), (PAGE, page)] {
            repository.files.insert(path.to_owned(), text.to_owned());
        }
        check(&repository).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_page_with_a_trial_of_each_theme_passes() {
        assert_eq!(problems("| x | yes | `one::b` |\n| y | no | `one::a`, `two::c` |"), [""; 0]);
    }

    #[test]
    fn a_trial_that_does_not_exist_and_a_theme_without_a_row_are_found() {
        let found = problems("| x | `one::c`, `three::a` |");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("one::c") && found[1].contains("three::a") && found[2].contains("theme two"));
    }
}
