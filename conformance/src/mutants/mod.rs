//! Brokers that break one promise each. What a suite cannot find in them, it cannot find in anything.

use std::sync::Arc;
use std::time::Duration;

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

/// All of them.
pub const ALL: &[Mutant] = &[];

/// Runs the named case on the broker as it is, which must pass, and on the mutant, which must fail. Gives how it failed.
pub(crate) fn try_on(
    benches: &[Bench],
    mutant: &'static Mutant,
    patience: Duration,
    little_patience: Duration,
) -> Result<String, String> {
    let case = cases::all().find(|case| case.id == mutant.breaks);
    let case = case.ok_or_else(|| format!("no case is called {}", mutant.breaks))?;
    let bench = benches.iter().find(|bench| bench.lacking(case) == Ok(None));
    let bench = bench.ok_or_else(|| format!("{} runs on none of the harnesses", case.id))?;
    let sound = bench.run(case, patience, None);
    if sound.verdict != Verdict::Passed {
        return Err(format!("{} does not pass on the broker as it is: {:?}", case.id, sound.verdict));
    }
    let wrap = mutant.wrap;
    match bench.run(case, little_patience, Some(Arc::new(wrap))).verdict {
        Verdict::Failed(how) => Ok(how),
        other => Err(format!("{} does not notice that this broker {}: {other:?}", case.id, mutant.what)),
    }
}
