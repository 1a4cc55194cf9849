use super::mutant::Mutant;
use crate::cases;
use crate::runner::{Bench, Verdict};

/// The result of a mutant's trial that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tried {
    /// How the case failed on the mutant.
    Caught(String),
    /// The reason why no harness can run the case.
    Nowhere(String),
}

/// Runs the named case on the broker as it is, which must pass, and on the mutant, which must fail.
pub(crate) fn try_on(benches: &[Bench], mutant: &'static Mutant) -> Result<Tried, String> {
    let case = cases::all().find(|case| case.id == mutant.breaks);
    let case = case.ok_or_else(|| format!("no case is called {}", mutant.breaks))?;
    let before = mutant.sound(case);
    let mut reasons = Vec::new();
    let mut able = None;
    for bench in benches {
        match bench.lacking(case, before)? {
            None => {
                able = Some(bench);
                break;
            }
            Some(lack) => reasons.push(lack.to_string()),
        }
    }
    let Some(bench) = able else {
        reasons.dedup();
        return Ok(Tried::Nowhere(format!("{} runs on none of the harnesses: {}", case.id, reasons.join("; "))));
    };
    let sound = bench.sound(case, before);
    if sound.verdict != Verdict::Passed {
        return Err(format!("{} does not pass on the broker as it is: {:?}", case.id, sound.verdict));
    }
    match bench.run(case, mutant.broken()).verdict {
        Verdict::Failed(how) => Ok(Tried::Caught(how)),
        other => Err(format!("{} does not notice that this broker {}: {other:?}", case.id, mutant.what)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use partitura_broker::{Broker, Capabilities, Delay, Durability, Error, ErrorKind, Limits, Result, Supports};

    use super::*;
    use crate::{Harness, mutants};

    /// A harness without any hook. Only its capabilities are known.
    struct NoHooks;

    #[async_trait]
    impl Harness for NoHooks {
        fn broker(&self) -> &'static str {
            "plain"
        }

        async fn connect(&self, _namespace: &str) -> Result<Arc<dyn Broker>> {
            Err(Error::new(ErrorKind::Disconnected, "connect", "no case needs this broker"))
        }
    }

    fn bench() -> Bench {
        let capabilities = Capabilities {
            broker: "plain 1".into(),
            durability: Durability::Synced,
            delay: Delay { native: true, max: Duration::from_secs(60), lateness: Duration::from_secs(1) },
            hold: None,
            limits: Limits::default(),
            supports: Supports::default(),
        };
        Bench::with_capabilities(Arc::new(NoHooks), capabilities)
    }

    #[test]
    fn a_mutant_of_a_case_whose_hook_is_missing_is_tried_nowhere_and_does_not_fail() {
        let bench = bench();
        let case_of = |mutant: &Mutant| cases::all().find(|case| case.id == mutant.breaks).expect("it exists");
        let tried: Vec<_> = mutants::all().filter(|mutant| bench.can_try_mutants_of(case_of(mutant))).collect();
        assert!(!tried.is_empty());
        for mutant in tried {
            let result = try_on(std::slice::from_ref(&bench), mutant);
            assert!(matches!(result, Ok(Tried::Nowhere(_))), "{}: {result:?}", mutant.name);
        }
    }
}
