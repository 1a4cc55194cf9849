//! Checks which of several starts counts.

use std::collections::BTreeSet;

use partitura::StartPolicy;
use partitura::history::EventKind;

use super::run::{Ended, Found, Run, Told, as_the_model_says, calls_of, end_of, story};
use crate::catalogue::operating::CLOSED;
use crate::catalogue::{Expected, Outcome, Verdict};
use crate::world::State;

/// The end of a run that a new one replaces.
const REPLACED: &str = "it was replaced by a new start of the same id";

/// Compares the runs of a piece with its starts, each run with its model, and all of them with the answers to its
/// clients.
pub(super) fn is_decided(state: &State, piece: &Ended, runs: &[Run]) -> Found {
    let name = format!("{}/{}", piece.workflow, piece.id);
    let stored: Vec<&Run> = runs.iter().filter(|run| run.name == name).collect();
    let chains = chains(&stored)?;
    let own: Vec<&Run> = chains.iter().collect();
    if own.is_empty() {
        return Err(("what is started is there", name));
    }
    starts_count_once(state, piece, &own)?;
    for (place, run) in own.iter().enumerate() {
        let expected = (piece.model)(&run.events);
        if run.again || end_of(run) == Some(Outcome::Other(CLOSED.to_owned())) {
            goes_as_far(run, &expected)?;
            continue;
        }
        match own.get(place + 1) {
            Some(next) if end_of(run) == Some(Outcome::Other(REPLACED.to_owned())) => {
                is_replaced(state, run, &expected, next)?;
            }
            _ => as_the_model_says(state, run, expected, runs)?,
        }
    }
    let is_deleted = state.audit.deletions.has_had(piece.workflow, &piece.id);
    piece.told.iter().try_for_each(|told| is_true(told, &own, (&stored, is_deleted)))
}

/// Joins runs that continue as new to the run that each of them names as its next, which a model takes for one.
fn chains(stored: &[&Run]) -> Result<Vec<Run>, (&'static str, String)> {
    let mut chains: Vec<Run> = Vec::new();
    for run in stored {
        let is_continued = |chain: &&mut Run| match chain.events.last().map(|event| &event.kind) {
            Some(EventKind::WorkflowContinued { run: next, .. } | EventKind::WorkflowRetried { run: next, .. }) => {
                *next == run.run
            }
            _ => false,
        };
        let Some(EventKind::WorkflowStarted(started)) = run.events.first().map(|event| &event.kind) else {
            return Err(("a workflow begins once and ends once", run.name.clone()));
        };
        match chains.iter_mut().find(is_continued) {
            Some(chain) if started.continued.as_ref().is_some_and(|before| before.first == chain.run) => {
                chain.events.extend(run.events.iter().cloned());
                chain.stopped |= run.stopped;
                chain.again |= run.again;
            }
            None if started.continued.is_none() => chains.push((*run).clone()),
            _ => return Err(("a run continues the one before it", format!("{}: {}", run.name, story(&run.events)))),
        }
    }
    Ok(chains)
}

/// Checks that every start that replaces leads to one run. Of the other starts, only the very first may.
fn starts_count_once(state: &State, piece: &Ended, own: &[&Run]) -> Found {
    let starts: Vec<(&String, StartPolicy)> = state
        .audit
        .starts
        .iter()
        .filter(|(_, start)| start.id == piece.id)
        .map(|(run, start)| (run, start.policy))
        .collect();
    let policy_of = |run: &Run| starts.iter().find(|(id, _)| **id == run.run).map(|(_, policy)| *policy);
    let policies: Vec<_> = own.iter().map(|run| policy_of(run)).collect();
    let replacing = starts.iter().filter(|(_, policy)| *policy == StartPolicy::Replace).count();
    let came_later = policies.iter().skip(1).all(|policy| *policy == Some(StartPolicy::Replace));
    let first = usize::from(policies[0].is_some_and(|policy| policy != StartPolicy::Replace));
    let distinct: BTreeSet<_> = own.iter().map(|run| &run.run).collect();
    if state.audit.deletions.has_had(piece.workflow, &piece.id) && policies.iter().all(Option::is_some) {
        // Its id was free again.
        return Ok(());
    }
    if policies[0].is_some() && came_later && own.len() == replacing + first && distinct.len() == own.len() {
        return Ok(());
    }
    Err(("each start counts once", format!("{} has runs by {policies:?} of {starts:?}", own[0].name)))
}

/// Checks a replaced run: it followed its model up to then, and ended in the turn in which the next run began.
fn is_replaced(state: &State, run: &Run, expected: &Expected, next: &Run) -> Found {
    goes_as_far(run, expected)?;
    let (end, begin) = (run.events.last().map(|event| event.at), next.events.first().map(|event| event.at));
    // A run's clock never goes back; that of its worker may.
    if end != begin && state.ahead == 0 {
        return Err(("a run is replaced at once", format!("{}: {end:?}, {begin:?}", run.name)));
    }
    Ok(())
}

/// Checks that a run that was ended from outside followed its model up to then.
fn goes_as_far(run: &Run, expected: &Expected) -> Found {
    let calls = calls_of(run);
    if expected.calls.starts_with(&calls) {
        return Ok(());
    }
    let text = format!("{}: {calls:?} instead of {:?}:\n{}", run.name, expected.calls, story(&run.events));
    Err(("tasks and compensations are called exactly when due", text))
}

/// Checks the answers to a client about its start and about the outcome.
/// An instance that was deleted may have been another one for each of them.
fn is_true(Told { number, policy, answered }: &Told, own: &[&Run], (stored, is_deleted): (&[&Run], bool)) -> Found {
    let is_by = |run: &&&Run| {
        let Some(EventKind::WorkflowStarted(started)) = run.events.first().map(|event| &event.kind) else {
            return false;
        };
        started.tags.iter().any(|tag| tag.starts_with(&format!("{number}.")))
    };
    let wrong = |what: &str| {
        let runs: Vec<_> = own.iter().map(|run| (&run.run, end_of(run))).collect();
        let text = format!("{}, client {number}, {policy:?}: {answered:?}, {what}; there are {runs:?}", own[0].name);
        Err(("a client is told what is", text))
    };
    match &answered.verdict {
        Verdict::Accepted
            if *policy == StartPolicy::Reject && !is_deleted && !own.iter().take(1).any(|run| is_by(&run)) =>
        {
            return wrong("which was not the first");
        }
        Verdict::Exists(run) if !stored.iter().any(|other| other.run == *run) => return wrong("which does not exist"),
        _ => {}
    }
    // A client that replaces gets the outcome of its own run, or of a later one.
    let from = match policy {
        StartPolicy::Replace => own.iter().rposition(|run| is_by(&run)),
        _ => Some(0),
    };
    let Some(from) = from else { return wrong("which left no run") };
    match &answered.outcome {
        Some(outcome) if !own[from..].iter().any(|run| end_of(run).as_ref() == Some(outcome)) => {
            wrong("which is no outcome of it")
        }
        _ => Ok(()),
    }
}
