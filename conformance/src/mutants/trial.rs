use super::mutant::Mutant;
use crate::cases;
use crate::runner::{Bench, Verdict};

/// Runs the named case on the broker as it is, which must pass, and on the mutant, which must fail. Gives how it
/// failed.
pub(crate) fn try_on(benches: &[Bench], mutant: &'static Mutant) -> Result<String, String> {
    let case = cases::all().find(|case| case.id == mutant.breaks);
    let case = case.ok_or_else(|| format!("no case is called {}", mutant.breaks))?;
    let before = mutant.sound(case);
    let bench = benches.iter().find(|bench| bench.lacking(case, before) == Ok(None));
    let bench = bench.ok_or_else(|| format!("{} runs on none of the harnesses", case.id))?;
    let sound = bench.sound(case, before);
    if sound.verdict != Verdict::Passed {
        return Err(format!("{} does not pass on the broker as it is: {:?}", case.id, sound.verdict));
    }
    match bench.run(case, mutant.broken()).verdict {
        Verdict::Failed(how) => Ok(how),
        other => Err(format!("{} does not notice that this broker {}: {other:?}", case.id, mutant.what)),
    }
}
