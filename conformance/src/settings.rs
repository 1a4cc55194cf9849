use std::path::PathBuf;

use crate::Tier;
use crate::mutants::Mutant;

/// The settings of a run, from environment variables: the arguments of a test are those of `cargo test`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) tier: Tier,
    only: Vec<String>,
    /// Decides the random choices of the cases.
    pub(crate) seed: u64,
    pub(crate) report: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn from_environment() -> Result<Self, String> {
        let variable = |name: &str| std::env::var(format!("PARTITURA_CONFORMANCE_{name}")).ok();
        let tier = match variable("TIER").as_deref() {
            None => Tier::Three,
            Some(text) => tier(text).ok_or_else(|| format!("there is no tier {text:?}; choose 1, 2, 3 or 4"))?,
        };
        let only: Vec<String> = variable("ONLY").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        if let Some(stranger) = only.iter().find(|id| !is_known(id)) {
            return Err(format!("no case is called {stranger}; docs/conformance.md lists them"));
        }
        let seed = match variable("SEED") {
            None => crate::client::now().as_millis(),
            Some(text) => text.parse().map_err(|_| format!("a seed is a number, and {text:?} is none"))?,
        };
        Ok(Self { tier, only, seed, report: variable("REPORT").map(PathBuf::from) })
    }

    pub(crate) fn wants(&self, id: &str, tier: Tier) -> bool {
        tier <= self.tier && (self.only.is_empty() || self.only.iter().any(|only| matches(only, id)))
    }

    pub(crate) fn wants_mutant(&self, mutant: &Mutant) -> bool {
        let case = crate::cases::all().find(|case| case.id == mutant.breaks);
        // Cases with load use little of it on a mutant.
        case.is_some_and(|case| self.wants(case.id, if case.tier == Tier::Four { Tier::One } else { case.tier }))
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

    #[test]
    fn tiers_are_numbers_from_one_to_four() {
        assert_eq!(tier("4"), Some(Tier::Four));
        assert_eq!(tier("5"), None);
    }
}
