//! Runs that follow each other under one id.

use partitura_broker::Expect;
use partitura_workflow::{Event, EventKind, Payload, RULES, Started, Stop, StopReason};

use super::{Abandoned, Turn};
use crate::wire::ids::seed_of;
use crate::workflow::beginning::beginning;
use crate::workflow::instance::Instance;

/// How many runs may begin in one turn. Each should wait for something before it continues.
const RUNS: usize = 100;
/// Of how many runs it is known which tasks they have detached.
const RUNS_WITH_DETACHED: usize = 32;

impl Turn<'_> {
    /// Begins the next run of an instance whose code continues as new, or which is tried again, in the same commit.
    pub(super) fn continue_as_new(&mut self) -> Result<(), Abandoned> {
        for _ in 0..RUNS {
            let Instance::Live(live) = &mut self.instance else { return Ok(()) };
            let Some(continued) = live.execution.take_continuation() else { return Ok(()) };
            let run = self.context.ids.fresh().to_string();
            let Some(next) = name_next(&mut self.recorded, &run) else { return Ok(()) };
            self.seal()?;
            let Instance::Live(live) = &mut self.instance else { return Ok(()) };
            let before = live.execution.started();
            let (version, input) =
                (next.version.unwrap_or(before.version), next.input.unwrap_or_else(|| before.input.clone()));
            let started = Started {
                seed: seed_of(&run),
                run,
                input,
                rules: RULES,
                version,
                continued: Some(continued),
                ..before.clone()
            };
            let at = live.notes.latest;
            let mut summary = beginning(&started, at);
            summary.awaited_by = std::mem::take(&mut live.summary.awaited_by);
            summary.attributes = std::mem::take(&mut live.summary.attributes);
            summary.indexed = std::mem::take(&mut live.summary.indexed);
            summary.end_signals = std::mem::take(&mut live.summary.end_signals);
            summary.detached_before = std::mem::take(&mut live.summary.detached_before);
            if !live.notes.detached.is_empty() {
                let detached = live.notes.detached.iter().copied().collect();
                summary.detached_before.insert(live.summary.run.clone(), detached);
            }
            while summary.detached_before.len() > RUNS_WITH_DETACHED {
                summary.detached_before.pop_first();
            }
            self.begin(Event::new(at, EventKind::WorkflowStarted(Box::new(started))), summary)?;
            self.summarize = Some(Expect::Any);
        }
        let (workflow, id) = (self.key.workflow.to_string(), self.key.id.to_string());
        Err(Abandoned::Stopped(Stop { workflow, id, reason: StopReason::Spinning }))
    }
}

/// The run that follows.
struct Next {
    /// `None`: that of the run before. So is the version.
    input: Option<Payload>,
    version: Option<u32>,
}

/// Says in the end of a run which one is next, and what is known of that.
fn name_next(recorded: &mut [Event], next: &str) -> Option<Next> {
    recorded.iter_mut().rev().find_map(|event| match &mut event.kind {
        EventKind::WorkflowContinued { run, input, version } => {
            next.clone_into(run);
            Some(Next { input: Some(input.clone()), version: *version })
        }
        EventKind::WorkflowRetried { run, .. } => {
            next.clone_into(run);
            Some(Next { input: None, version: None })
        }
        _ => None,
    })
}
