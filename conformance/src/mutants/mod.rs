//! Brokers that break one promise each. They show that the cases notice it.

mod adding;
mod cancelling;
mod delaying;
mod delivering;
mod handling;
mod keeping;
mod mutant;
mod mutation;
mod naming;
mod operating;
mod owning;
mod promising;
mod publishing;
mod settling;
mod standing;
mod suspecting;
mod trial;

pub use self::mutant::Mutant;
pub(crate) use self::trial::{Tried, try_on};

const KINDS: &[&[Mutant]] = &[
    publishing::MUTANTS,
    delaying::MUTANTS,
    cancelling::MUTANTS,
    delivering::MUTANTS,
    settling::MUTANTS,
    owning::MUTANTS,
    promising::MUTANTS,
    handling::MUTANTS,
    adding::MUTANTS,
    naming::MUTANTS,
    suspecting::MUTANTS,
    keeping::MUTANTS,
    standing::MUTANTS,
    operating::MUTANTS,
];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Mutant> {
    KINDS.iter().copied().flatten()
}

/// The mutant of that name.
pub(crate) fn named(name: &str) -> Option<&'static Mutant> {
    all().find(|mutant| mutant.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{Need, cases};

    #[test]
    fn each_mutant_has_a_name_of_its_own_and_names_a_case() {
        let mut names = HashSet::new();
        for mutant in all() {
            assert!(names.insert(mutant.name), "{} occurs twice", mutant.name);
            assert!(cases::all().any(|case| case.id == mutant.breaks), "{}: no case {}", mutant.name, mutant.breaks);
        }
        assert!(names.len() >= 130, "{}", names.len());
    }

    #[test]
    fn each_case_has_a_mutant_where_a_broker_without_network_can_have_it() {
        for case in cases::all() {
            let elsewhere = case.needs.iter().any(|need| matches!(need, Need::Network | Need::Access));
            assert!(elsewhere || all().any(|mutant| mutant.breaks == case.id), "{} has no mutant", case.id);
        }
    }
}
