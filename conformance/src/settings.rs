use std::path::PathBuf;

use crate::Tier;
use crate::case::Need;
use crate::mutants::Mutant;

const PREFIX: &str = "PARTITURA_CONFORMANCE_";
/// The largest number of runs of a case.
const MAX_RUNS: u64 = 10_000;

/// The settings of a run, from environment variables: the arguments of a test are those of `cargo test`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) tier: Tier,
    only: Vec<String>,
    /// Each case runs once with each of them. They decide the random choices of the cases.
    pub(crate) seeds: Vec<u64>,
    pub(crate) report: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn from_environment() -> Result<Self, String> {
        Self::read(|name| std::env::var(format!("{PREFIX}{name}")).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let tier = match variable("TIER").as_deref() {
            None => Tier::Three,
            Some(text) => tier(text).ok_or_else(|| format!("there is no tier {text:?}; choose 1, 2, 3 or 4"))?,
        };
        let only: Vec<String> = variable("ONLY").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        if let Some(stranger) = only.iter().find(|id| !is_known(id)) {
            return Err(format!("no case is called {stranger}; docs/conformance.md lists them"));
        }
        let first: u64 = match variable("SEED") {
            None => crate::client::now().as_millis(),
            Some(text) => text.parse().map_err(|_| format!("a seed is a number, and {text:?} is none"))?,
        };
        let runs: u64 = match variable("REPEAT") {
            None => 1,
            Some(text) => text
                .parse()
                .ok()
                .filter(|runs| (1..=MAX_RUNS).contains(runs))
                .ok_or_else(|| format!("each case runs from 1 to {MAX_RUNS} times; {PREFIX}REPEAT is {text:?}"))?,
        };
        let seeds = (0..runs).map(|run| first.wrapping_add(run)).collect();
        Ok(Self { tier, only, seeds, report: variable("REPORT").map(PathBuf::from) })
    }

    pub(crate) fn wants(&self, id: &str, tier: Tier) -> bool {
        tier <= self.tier && (self.only.is_empty() || self.only.iter().any(|only| matches(only, id)))
    }

    pub(crate) fn wants_mutant(&self, mutant: &Mutant) -> bool {
        let case = crate::cases::all().find(|case| case.id == mutant.breaks);
        case.is_some_and(|case| {
            // Cases with load use little of it on a mutant.
            let is_light = case.tier == Tier::Four && !case.needs.contains(&Need::Operator);
            self.wants(case.id, if is_light { Tier::One } else { case.tier })
        })
    }
}

fn tier(text: &str) -> Option<Tier> {
    [Tier::One, Tier::Two, Tier::Three, Tier::Four].into_iter().find(|tier| (*tier as u8).to_string() == text)
}

fn is_known(only: &str) -> bool {
    crate::cases::all().any(|case| matches(only, case.id))
}

/// A case by its id, or all of an area.
fn matches(only: &str, id: &str) -> bool {
    only == id || id.split('.').next() == Some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_chosen_by_its_id_or_its_area() {
        assert!(matches("order.key_basic", "order.key_basic") && matches("order", "order.key_basic"));
        assert!(!matches("order.key", "order.key_basic") && !matches("ord", "order.key_basic"));
    }

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(|name| variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn each_run_of_a_case_has_a_seed_of_its_own_that_follows_from_the_first() {
        assert_eq!(read(&[("SEED", "17"), ("REPEAT", "3")]).expect("settings").seeds, [17, 18, 19]);
        assert_eq!(read(&[("SEED", "18")]).expect("settings").seeds, [18]);
        assert_eq!(read(&[]).expect("settings").seeds.len(), 1);
        for runs in ["0", "-1", "many", "10001"] {
            let refused = read(&[("REPEAT", runs)]).expect_err("refused");
            assert!(refused.contains("PARTITURA_CONFORMANCE_REPEAT"), "{refused}");
        }
    }

    #[test]
    fn tiers_are_numbers_from_one_to_four() {
        assert_eq!(tier("4"), Some(Tier::Four));
        assert_eq!(tier("5"), None);
    }
}
