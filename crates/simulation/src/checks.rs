//! What has to hold of a world at rest.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use partitura::FailureKind;
use partitura::Summary;
use partitura::events::CloudEvent;
use partitura::history::{Event, EventKind, Execution};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::catalogue::{Expected, Model, Outcome, definition};
use crate::world::State;

/// A piece that was performed, and what the client heard of its end.
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) workflow: &'static str,
    pub(crate) model: Model,
    pub(crate) outcome: Option<Outcome>,
}

/// A run of an instance, as it is kept.
struct Run {
    name: String,
    workflow: String,
    id: String,
    run: String,
    turns: Vec<Vec<Event>>,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Row<T> {
    body: T,
}

type Found = Result<(), (&'static str, String)>;

/// Looks at everything, and notes the first thing that is wrong.
pub(crate) fn run(state: &mut State, ended: &[Ended]) {
    if state.violation.is_some() {
        return;
    }
    if let Err((invariant, what)) = all(state, ended) {
        state.violate(invariant, what);
    }
}

fn all(state: &State, ended: &[Ended]) -> Found {
    let runs = runs(state)?;
    for run in &runs {
        ends_once(run)?;
        inputs_are_applied_once(run)?;
        replays(run)?;
        events_are_published(state, run)?;
    }
    no_other_events(state, &runs)?;
    summaries(state, &runs)?;
    tasks_were_run(state, &runs)?;
    for piece in ended {
        as_the_model_says(piece, &runs)?;
    }
    match state.contents(".commands.workers.dead").first() {
        Some(letter) => Err(("no command is given up", format!("{} is a dead letter", letter.id))),
        None => Ok(()),
    }
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, (&'static str, String)> {
    serde_json::from_slice(value).map_err(|error| ("what is stored can be read", error.to_string()))
}

fn runs(state: &State) -> Result<Vec<Run>, (&'static str, String)> {
    let mut runs: BTreeMap<Bytes, Run> = BTreeMap::new();
    for (key, value) in state.keys.space("history") {
        let prefix = key.slice(..key.len().saturating_sub(4));
        let turn: Row<Vec<Event>> = decode(value)?;
        let run = runs.entry(prefix.clone()).or_insert_with(|| {
            let text = String::from_utf8_lossy(&prefix).into_owned();
            let mut parts = text.trim_end_matches('\0').split('\0').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            let (workflow, id, run) = (next(), next(), next());
            Run { name: format!("{workflow}/{id}"), workflow, id, run, turns: Vec::new(), events: Vec::new() }
        });
        run.events.extend(turn.body.iter().cloned());
        run.turns.push(turn.body);
    }
    Ok(runs.into_values().collect())
}

fn ends_once(run: &Run) -> Found {
    let ends = run.events.iter().filter(|event| event.kind.is_end()).count();
    let begins = run.events.iter().filter(|event| matches!(event.kind, EventKind::WorkflowStarted(_))).count();
    let ends_last = run.events.last().is_some_and(|event| event.kind.is_end());
    if (begins, ends, ends_last) != (1, 1, true) {
        let told = story(&run.events);
        return Err(("a workflow begins once and ends once", format!("{} has {begins} and {ends}:\n{told}", run.name)));
    }
    Ok(())
}

/// Results, timers, children, steps: one each. Signals: one per message.
fn inputs_are_applied_once(run: &Run) -> Found {
    let (mut results, mut messages, mut asked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for event in &run.events {
        let (fresh, asked_for) = match &event.kind {
            EventKind::SignalReceived { message_id, .. } => (messages.insert(message_id.clone()), true),
            EventKind::TaskHeartbeat { .. } => continue,
            kind if kind.is_input() => match kind.seq() {
                Some(seq) => (results.insert(seq), asked.contains(&seq)),
                None => continue,
            },
            kind => {
                asked.extend(kind.seq());
                continue;
            }
        };
        if !(fresh && asked_for) {
            let text = format!("{} has {event}, applied before: {}, asked for: {asked_for}", run.name, !fresh);
            return Err(("a result is applied once", text));
        }
    }
    Ok(())
}

/// The code, given the history, comes to the same end and asks for nothing more.
fn replays(run: &Run) -> Found {
    let Some(definition) = definition(&run.workflow) else {
        return Err(("a history belongs to a workflow", run.name.clone()));
    };
    let wrong = |what: String| Err(("a history replays to its own end", format!("{}: {what}", run.name)));
    match Execution::replay(&definition, run.events.clone()) {
        Err(stop) => wrong(stop.to_string()),
        Ok((_, turn)) if !(turn.events.is_empty() && turn.steps.is_empty()) => wrong(format!("{:?}", turn.events)),
        Ok((execution, _)) => match (execution.outcome(), run.events.last()) {
            (Some(again), Some(end)) if *again == end.kind => Ok(()),
            (again, end) => wrong(format!("{again:?} instead of {end:?}")),
        },
    }
}

fn events_are_published(state: &State, run: &Run) -> Found {
    for (turn, events) in run.turns.iter().enumerate() {
        for (index, event) in events.iter().enumerate() {
            let id = format!("{}.{turn}.{index}", run.run);
            let Some(published) = state.audit.events.get(&id) else {
                return Err(("every event is published", format!("{}: {id}, {event}", run.name)));
            };
            let published: CloudEvent<EventKind> = decode(published)?;
            if published.data != event.kind || published.subject != run.name || published.id != id {
                return Err(("what is published is what happened", format!("{}: {id}, {event}", run.name)));
            }
        }
    }
    Ok(())
}

fn no_other_events(state: &State, runs: &[Run]) -> Found {
    let recorded: usize = runs.iter().map(|run| run.events.len()).sum();
    if state.audit.events.len() == recorded {
        return Ok(());
    }
    let text = format!("{} were published, {recorded} are recorded", state.audit.events.len());
    Err(("nothing is published that did not happen", text))
}

/// Whether every instance has ended, as far as its summary says.
pub(crate) fn all_closed(state: &State) -> bool {
    let closed = |value: &Bytes| decode::<Row<Summary>>(value).is_ok_and(|row| row.body.status.is_closed());
    state.keys.space("instances").all(|(_, value)| closed(value))
}

/// What is known of the instances that have not ended.
pub(crate) fn still_open(state: &State) -> String {
    let Ok(runs) = runs(state) else { return String::new() };
    let open = runs.iter().filter(|run| !run.events.iter().any(|event| event.kind.is_end()));
    open.map(|run| format!("{} is open:\n{}", run.name, story(&run.events))).collect()
}

/// One summary per instance, of its one run, and closed.
fn summaries(state: &State, runs: &[Run]) -> Found {
    let summaries = state.keys.space("instances").map(|(_, value)| decode::<Row<Summary>>(value).map(|row| row.body));
    let summaries = summaries.collect::<Result<Vec<_>, _>>()?;
    for run in runs {
        let of_run = summaries.iter().find(|summary| summary.workflow == run.workflow && summary.id == run.id);
        match of_run {
            Some(summary) if summary.run == run.run && summary.status.is_closed() => {}
            other => return Err(("an instance has one run, and its summary", format!("{}: {other:?}", run.name))),
        }
    }
    Ok(())
}

/// Whatever has a result was run, and whatever was run had been asked for.
fn tasks_were_run(state: &State, runs: &[Run]) -> Found {
    let mut asked = BTreeMap::new();
    for run in runs {
        for event in &run.events {
            match &event.kind {
                EventKind::TaskScheduled { seq, .. } => {
                    asked.insert(format!("{}.{seq}", run.run), call(&event.kind));
                }
                EventKind::TaskCompleted { seq, .. } => {
                    let key = format!("{}.{seq}", run.run);
                    if !state.audit.calls.contains_key(&key) {
                        return Err(("a task with a result was run", format!("{}: {key}", run.name)));
                    }
                }
                _ => {}
            }
        }
    }
    for (key, (what, _)) in &state.audit.calls {
        if asked.get(key).and_then(Option::as_ref) != Some(what) {
            return Err(("a task that is run was asked for", format!("{key}: {what}")));
        }
    }
    Ok(())
}

fn as_the_model_says(piece: &Ended, runs: &[Run]) -> Found {
    let name = format!("{}/{}", piece.workflow, piece.id);
    let Some(run) = runs.iter().find(|run| run.name == name) else {
        return Err(("what is started is there", name));
    };
    let Expected { outcome, calls } = (piece.model)(&run.events);
    let told = || story(&run.events);
    if piece.outcome.as_ref().is_some_and(|heard| *heard != outcome) {
        let text = format!("{name}: the client was told {:?} instead of {outcome:?}:\n{}", piece.outcome, told());
        return Err(("a workflow ends as its model says", text));
    }
    let ended = run.events.last().map(|event| outcome_of(&event.kind));
    if ended.as_ref() != Some(&outcome) {
        return Err(("a workflow ends as its model says", format!("{name}: {ended:?} instead of {outcome:?}")));
    }
    let scheduled: Vec<_> = run.events.iter().filter_map(|event| call(&event.kind)).collect();
    if scheduled != calls {
        let text = format!("{name}: {scheduled:?} instead of {calls:?}:\n{}", told());
        return Err(("tasks and compensations are called exactly when due", text));
    }
    Ok(())
}

fn outcome_of(end: &EventKind) -> Outcome {
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

/// A scheduled task as models write it.
fn call(event: &EventKind) -> Option<String> {
    let EventKind::TaskScheduled { method, args, .. } = event else { return None };
    let args: Value = args.decode().ok()?;
    let name = args.pointer("/call/name").or_else(|| args.get("name"))?;
    Some(format!("{method}({})", name.as_str()?))
}

fn story(events: &[Event]) -> String {
    events.iter().map(|event| format!("    {event}\n")).collect()
}
