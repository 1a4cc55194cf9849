//! Brokers that break one promise each. What a suite cannot find in them, it cannot find in anything.

mod adding;
mod cancelling;
mod delaying;
mod delivering;
mod handling;
mod naming;
mod owning;
mod promising;
mod publishing;
mod settling;
mod subject;
mod twist;

use std::sync::Arc;

use partitura_broker::Broker;
use partitura_lanes::LaneOptions;

pub(crate) use self::handling::restore_key;
pub(crate) use self::subject::Subject;
use crate::cases;
use crate::runner::{Bench, Verdict};

/// A broker that breaks one promise, and the case that finds it out.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// The case that must fail on it.
    pub breaks: &'static str,
    /// What it does wrong, in a sentence.
    pub what: &'static str,
    pub(crate) how: Breaks,
}

/// Where a mutant does otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Breaks {
    /// Between the broker and everybody.
    Broker(Wrap),
    /// Between the broker and the lanes: what they do shows in the history.
    View(Wrap),
    /// In what the lanes are told.
    Options(fn(LaneOptions) -> LaneOptions),
    /// In what the broker itself may lack, and a sound twin adds.
    Twin { sound: Wrap, broken: Wrap },
}

/// Puts something before a broker.
pub(crate) type Wrap = fn(Arc<dyn Broker>) -> Arc<dyn Broker>;

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
];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Mutant> {
    KINDS.iter().copied().flatten()
}

/// The mutant of that name.
pub(crate) fn named(name: &str) -> Option<&'static Mutant> {
    all().find(|mutant| mutant.name == name)
}

/// Writes a [`Mutant`] down: its name, the case that it fails, what it does, and what does it: a twist of the broker, of
/// the `view` that lanes have of it, or of a `twin`; or a change of the lanes' `options`.
macro_rules! mutant {
    (@ $name:literal, $breaks:literal, $what:literal, $how:expr) => {
        $crate::mutants::Mutant { name: $name, breaks: $breaks, what: $what, how: $how }
    };
    (view $name:literal, $breaks:literal, $what:literal, $twist:expr $(,)?) => {
        mutant!(@ $name, $breaks, $what, $crate::mutants::Breaks::View(|broker| wrap(broker, $twist)))
    };
    (options $name:literal, $breaks:literal, $what:literal, $change:expr $(,)?) => {
        mutant!(@ $name, $breaks, $what, $crate::mutants::Breaks::Options($change))
    };
    (twin $name:literal, $breaks:literal, $what:literal, $sound:expr, $broken:expr $(,)?) => {
        mutant!(@ $name, $breaks, $what, $crate::mutants::Breaks::Twin {
            sound: |broker| wrap(broker, $sound),
            broken: |broker| wrap(broker, $broken),
        })
    };
    ($name:literal, $breaks:literal, $what:literal, $twist:expr $(,)?) => {
        mutant!(@ $name, $breaks, $what, $crate::mutants::Breaks::Broker(|broker| wrap(broker, $twist)))
    };
}
use mutant;

/// Runs the named case on the broker as it is, which must pass, and on the mutant, which must fail. Gives how it failed.
pub(crate) fn try_on(benches: &[Bench], mutant: &'static Mutant) -> Result<String, String> {
    let case = cases::all().find(|case| case.id == mutant.breaks);
    let case = case.ok_or_else(|| format!("no case is called {}", mutant.breaks))?;
    let before = Subject::before(case, mutant);
    let bench = benches.iter().find(|bench| bench.lacking(case, before) == Ok(None));
    let bench = bench.ok_or_else(|| format!("{} runs on none of the harnesses", case.id))?;
    let sound = bench.sound(case, before);
    if sound.verdict != Verdict::Passed {
        return Err(format!("{} does not pass on the broker as it is: {:?}", case.id, sound.verdict));
    }
    match bench.run(case, Subject::Broken(mutant)).verdict {
        Verdict::Failed(how) => Ok(how),
        other => Err(format!("{} does not notice that this broker {}: {other:?}", case.id, mutant.what)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Need;

    #[test]
    fn each_mutant_has_a_name_of_its_own_and_names_a_case() {
        let mut names = HashSet::new();
        for mutant in all() {
            assert!(names.insert(mutant.name), "{} occurs twice", mutant.name);
            assert!(cases::all().any(|case| case.id == mutant.breaks), "{}: no case {}", mutant.name, mutant.breaks);
        }
        assert!(names.len() >= 100, "{}", names.len());
    }

    #[test]
    fn each_case_has_a_mutant_where_a_broker_without_network_can_have_it() {
        for case in cases::all() {
            let elsewhere = case.needs.iter().any(|need| matches!(need, Need::Network | Need::Access));
            assert!(elsewhere || all().any(|mutant| mutant.breaks == case.id), "{} has no mutant", case.id);
        }
    }
}
