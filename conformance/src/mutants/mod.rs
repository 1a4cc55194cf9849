//! Brokers that break one promise each. What a suite cannot find in them, it cannot find in anything.

mod delaying;
mod delivering;
mod owning;
mod promising;
mod publishing;
mod settling;
mod twist;

use std::sync::Arc;

use partitura_broker::Broker;

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
    pub(crate) wrap: fn(Arc<dyn Broker>) -> Arc<dyn Broker>,
}

const KINDS: &[&[Mutant]] = &[
    publishing::MUTANTS,
    delaying::MUTANTS,
    delivering::MUTANTS,
    settling::MUTANTS,
    owning::MUTANTS,
    promising::MUTANTS,
];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Mutant> {
    KINDS.iter().copied().flatten()
}

/// The mutant of that name.
pub(crate) fn named(name: &str) -> Option<&'static Mutant> {
    all().find(|mutant| mutant.name == name)
}

/// Writes a [`Mutant`] down: its name, the case that it fails, what it does, and the twist that does it.
macro_rules! mutant {
    ($name:literal, $breaks:literal, $what:literal, $twist:expr) => {
        $crate::mutants::Mutant { name: $name, breaks: $breaks, what: $what, wrap: |broker| wrap(broker, $twist) }
    };
}
use mutant;

/// Runs the named case on the broker as it is, which must pass, and on the mutant, which must fail. Gives how it failed.
pub(crate) fn try_on(benches: &[Bench], mutant: &'static Mutant) -> Result<String, String> {
    let case = cases::all().find(|case| case.id == mutant.breaks);
    let case = case.ok_or_else(|| format!("no case is called {}", mutant.breaks))?;
    let bench = benches.iter().find(|bench| bench.lacking(case) == Ok(None));
    let bench = bench.ok_or_else(|| format!("{} runs on none of the harnesses", case.id))?;
    let sound = bench.sound(case);
    if sound.verdict != Verdict::Passed {
        return Err(format!("{} does not pass on the broker as it is: {:?}", case.id, sound.verdict));
    }
    match bench.run(case, Some(mutant)).verdict {
        Verdict::Failed(how) => Ok(how),
        other => Err(format!("{} does not notice that this broker {}: {other:?}", case.id, mutant.what)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_mutant_has_a_name_of_its_own_and_names_a_case() {
        let mut names = HashSet::new();
        for mutant in all() {
            assert!(names.insert(mutant.name), "{} occurs twice", mutant.name);
            assert!(cases::all().any(|case| case.id == mutant.breaks), "{}: no case {}", mutant.name, mutant.breaks);
        }
        assert!(names.len() >= 30, "{}", names.len());
    }
}
