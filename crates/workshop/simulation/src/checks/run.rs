//! The runs of a world at rest, and their comparison with models.

use partitura::history::{Event, EventKind};
use partitura::{FailureKind, StartPolicy};
use serde_json::Value;

use crate::catalogue::{Answered, Expected, Model, Outcome, call};
use crate::world::State;

/// A piece that was performed, and the answers to its clients.
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) workflow: &'static str,
    pub(crate) model: Model,
    pub(crate) told: Vec<Told>,
}

/// The answers to one of its clients, and its start.
pub(crate) struct Told {
    pub(crate) number: usize,
    pub(crate) policy: StartPolicy,
    pub(crate) answered: Answered,
}

/// A run of an instance, as it is stored.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) name: String,
    pub(super) workflow: String,
    pub(super) id: String,
    pub(super) run: String,
    /// Whether its code was once unable to go on.
    pub(super) stopped: bool,
    /// It is deleted.
    pub(super) deleted: bool,
    /// It has begun again by a copy of its start, after it was deleted, or was begun again later.
    pub(super) again: bool,
    pub(super) turns: Vec<Vec<Event>>,
    pub(super) events: Vec<Event>,
}

pub(super) type Found = Result<(), (&'static str, String)>;

/// Compares a run with its model.
pub(super) fn as_the_model_says(
    state: &State,
    run: &Run,
    Expected { outcome, calls, others }: Expected,
    runs: &[Run],
) -> Found {
    let told = || story(&run.events);
    let ended = end_of(run);
    if ended.as_ref() != Some(&outcome) {
        let text = format!("{}: {ended:?} instead of {outcome:?}:\n{}", run.name, told());
        return Err(("a workflow ends as its model says", text));
    }
    let scheduled = calls_of(run);
    if scheduled != calls {
        let text = format!("{}: {scheduled:?} instead of {calls:?}:\n{}", run.name, told());
        return Err(("tasks and compensations are called exactly when due", text));
    }
    for (workflow, id, outcome) in others {
        let name = format!("{workflow}/{id}");
        let found: Vec<_> = runs.iter().filter(|run| run.name == name).map(end_of).collect();
        let deletions = &state.audit.deletions;
        // A deleted instance may have been started anew, and its children with it.
        let may_be_more = deletions.has_had(&run.workflow, &run.id) || deletions.has_had(workflow, &id);
        let as_expected = match may_be_more {
            true => found.contains(&Some(outcome.clone())),
            false => found == [Some(outcome.clone())],
        };
        if !as_expected {
            let text = format!("{name}, of {}: {found:?} instead of {outcome:?}", run.name);
            return Err(("what a workflow starts ends as its model says", text));
        }
    }
    Ok(())
}

pub(super) fn end_of(run: &Run) -> Option<Outcome> {
    run.events.last().map(|event| outcome_of(&event.kind))
}

pub(super) fn calls_of(run: &Run) -> Vec<String> {
    run.events.iter().filter_map(|event| call(&event.kind)).collect()
}

pub(super) fn outcome_of(end: &EventKind) -> Outcome {
    match end {
        EventKind::WorkflowCompleted { result } => Outcome::Ok(result.decode().unwrap_or(Value::Null)),
        EventKind::WorkflowFailed { failure } if failure.kind == FailureKind::Application => {
            let details = failure.details.as_ref().and_then(|details| details.decode().ok());
            Outcome::Err(details.unwrap_or(Value::Null))
        }
        EventKind::WorkflowCancelled { reason, .. } => Outcome::Cancelled(reason.clone().unwrap_or_default()),
        EventKind::WorkflowFailed { failure } => Outcome::Other(failure.message.clone()),
        other => Outcome::Other(format!("{other:?}")),
    }
}

pub(super) fn story(events: &[Event]) -> String {
    events.iter().map(|event| format!("    {event}\n")).collect()
}
