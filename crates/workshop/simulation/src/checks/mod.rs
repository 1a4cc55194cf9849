//! The invariants of a world at rest.

mod contests;
mod deleted;
mod index;
mod run;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use partitura::events::CloudEvent;
use partitura::history::{Event, EventKind, Execution};
use partitura::{Summary, Workflow};
use partitura_engine::ScheduleWorkflow;
use serde::de::DeserializeOwned;

pub(crate) use self::run::{Ended, Told};
use self::run::{Found, Run, story};
use crate::catalogue::upset::KILLER;
use crate::catalogue::{call, definition};
use crate::model::calls::Task;
use crate::plan::CRASHES;
use crate::rows::{body, mentions};
use crate::world::State;

/// Checks everything, and notes the first violation.
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
    deleted::leave_nothing(state, &runs)?;
    deleted::are_sent_again(state)?;
    index::is_that_of_the_summaries(state)?;
    tasks_were_run(state, &runs)?;
    killers_were_given_up(state)?;
    steps_were_run(state, &runs)?;
    for piece in ended {
        contests::is_decided(state, piece, &runs)?;
    }
    match state.contents(".commands.workers.dead").first() {
        Some(letter) => Err(("no command is given up", format!("{} is a dead letter", letter.id))),
        None => Ok(()),
    }
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, (&'static str, String)> {
    serde_json::from_slice(value).map_err(|error| ("what is stored can be read", error.to_string()))
}

fn stored<T: DeserializeOwned>(value: &[u8]) -> Result<T, (&'static str, String)> {
    body(value).map_err(|error| ("what is stored can be read", error.to_string()))
}

/// All runs, in the order in which they began.
fn runs(state: &State) -> Result<Vec<Run>, (&'static str, String)> {
    let mut kept: BTreeMap<Bytes, Vec<&Bytes>> = BTreeMap::new();
    for (key, value) in state.keys.space("history") {
        kept.entry(key.slice(..key.len().saturating_sub(4))).or_default().push(value);
    }
    let mut begins: BTreeMap<&Bytes, usize> = BTreeMap::new();
    let mut runs = Vec::new();
    for key in &state.audit.begun {
        let begin = begins.entry(key).or_default();
        *begin += 1;
        let deleted = state.audit.deletions.turns_of(key, *begin).map(|turns| turns.values().collect());
        let is_deleted = deleted.is_some();
        if let Some(turns) = deleted.or_else(|| kept.remove(key)) {
            runs.push(Run { deleted: is_deleted, ..read(state, key, turns)? });
        }
    }
    Ok(runs)
}

fn read(state: &State, key: &Bytes, values: Vec<&Bytes>) -> Result<Run, (&'static str, String)> {
    let text = String::from_utf8_lossy(key).into_owned();
    let mut parts = text.trim_end_matches('\0').split('\0').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    let (workflow, id, run) = (next(), next(), next());
    let (name, stopped) = (format!("{workflow}/{id}"), state.audit.stopped.contains(&run));
    let turns = values.into_iter().map(|value| stored(value)).collect::<Result<Vec<Vec<Event>>, _>>()?;
    let events = turns.iter().flatten().cloned().collect();
    let again = state.audit.deletions.has_begun_again(&run);
    Ok(Run { name, workflow, id, run, stopped, deleted: false, again, turns, events })
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

/// Checks that each result, timer, child and step is applied once, and a signal once per message, and an update
/// once per id. While the code of a
/// run cannot go on, inputs are kept as they come, and the replay passes over those that it had before.
fn inputs_are_applied_once(run: &Run) -> Found {
    if run.stopped {
        return Ok(());
    }
    let (mut results, mut asked) = (BTreeSet::new(), BTreeSet::new());
    let (mut messages, mut updates) = (BTreeSet::new(), BTreeSet::new());
    for event in &run.events {
        let (fresh, asked_for) = match &event.kind {
            EventKind::SignalReceived { message_id, .. } => (messages.insert(message_id.clone()), true),
            EventKind::UpdateReceived { id, .. } => (updates.insert(id.clone()), true),
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

/// Checks that a replay of the history comes to the same end and asks for nothing more. An end that was imposed on a
/// stopped run may differ from the end that the repaired code would reach.
fn replays(run: &Run) -> Found {
    let Some(definition) = definition(&run.workflow) else {
        return Err(("a history belongs to a workflow", run.name.clone()));
    };
    let wrong = |what: String| Err(("a history replays to its own end", format!("{}: {what}", run.name)));
    match Execution::replay(&definition, run.events.clone()) {
        Err(stop) => wrong(stop.to_string()),
        Ok(_) if run.stopped && run.events.last().is_some_and(|event| event.kind.is_imposed_end()) => Ok(()),
        Ok((_, turn)) if !(turn.events.is_empty() && turn.steps.is_empty()) => wrong(format!("{:?}", turn.events)),
        Ok((execution, _)) => match (execution.outcome(), run.events.last()) {
            (Some(again), Some(end)) if *again == end.kind => Ok(()),
            (again, end) => wrong(format!("{again:?} instead of {end:?}")),
        },
    }
}

fn events_are_published(state: &State, run: &Run) -> Found {
    if run.again {
        return Ok(());
    }
    for (turn, events) in run.turns.iter().enumerate() {
        for (index, event) in events.iter().enumerate() {
            let id = format!("{}.{turn}.{index}", run.run);
            let Some(published) = state.audit.events.get(&id) else {
                return Err(("every event is published", format!("{}: {id}, {event}", run.name)));
            };
            let published: CloudEvent<EventKind> = decode(published)?;
            // One that is larger than the broker takes goes without its payloads.
            let is_cut = published.truncated && state.plan.payload.is_some();
            if (published.data != event.kind && !is_cut) || published.subject != run.name || published.id != id {
                return Err(("what is published is what happened", format!("{}: {id}, {event}", run.name)));
            }
        }
    }
    Ok(())
}

fn no_other_events(state: &State, runs: &[Run]) -> Found {
    let recorded: usize = runs.iter().filter(|run| !run.again).map(|run| run.events.len()).sum();
    let of_again = |id: &&String| state.audit.deletions.has_begun_again(id.split('.').next().unwrap_or_default());
    let published = state.audit.events.keys().filter(|id| !of_again(id)).count();
    if published == recorded {
        return Ok(());
    }
    let text = format!("{published} were published, {recorded} are recorded");
    Err(("nothing is published that did not happen", text))
}

/// Whether every instance has ended, as far as its summary says.
pub(crate) fn all_closed(state: &State) -> bool {
    // This is called too often to decode the summary each time.
    state.keys.space("instances").all(|(_, value)| mentions(value, "\"closed_at\""))
}

/// Describes the instances that have not ended.
pub(crate) fn still_open(state: &State) -> String {
    let Ok(runs) = runs(state) else { return String::new() };
    let open = runs.iter().filter(|run| !run.events.iter().any(|event| event.kind.is_end()));
    open.map(|run| format!("{} is open:\n{}", run.name, story(&run.events))).collect()
}

/// Checks that each instance has one summary, of its latest run, and closed.
fn summaries(state: &State, runs: &[Run]) -> Found {
    let summaries = state.keys.space("instances").map(|(_, value)| stored::<Summary>(value));
    let summaries = summaries.collect::<Result<Vec<_>, _>>()?;
    let latest: BTreeMap<&str, &Run> = runs.iter().map(|run| (run.name.as_str(), run)).collect();
    for run in latest.into_values() {
        let of_run = summaries.iter().find(|summary| summary.workflow == run.workflow && summary.id == run.id);
        match of_run {
            None if run.deleted => {}
            Some(summary) if summary.run == run.run && summary.status.is_closed() => {}
            other => {
                return Err(("an instance's summary is that of its latest run", format!("{}: {other:?}", run.name)));
            }
        }
    }
    match state.keys.space("stopped").next() {
        Some((key, _)) => Err(("what has ended is not stopped", String::from_utf8_lossy(key).replace('\0', "/"))),
        None => Ok(()),
    }
}

/// Checks that a task with a result was run, and that a task that was run had been scheduled.
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
                    let task = state.audit.calls.tasks.get(&key);
                    if !task.is_some_and(|task| {
                        (1..=task.last.unwrap_or(1)).all(|attempt| task.attempts.contains_key(&attempt))
                    }) {
                        return Err(("a task with a result was run", format!("{}: {key}, {task:?}", run.name)));
                    }
                }
                _ => {}
            }
        }
    }
    for (key, Task { what, .. }) in &state.audit.calls.tasks {
        if asked.get(key).and_then(Option::as_ref) != Some(what) {
            return Err(("a task that is run was asked for", format!("{key}: {what}")));
        }
    }
    Ok(())
}

/// Checks that a task that ends its process is run as often as was set; once less if its first delivery was taken for
/// another, and once more if a copy comes when it has been given up and its instance does not know yet. That it is given
/// up, and no other, is what the models expect.
fn killers_were_given_up(state: &State) -> Found {
    let killer = format!("play({KILLER})");
    let killers = state.audit.calls.tasks.iter().filter(|(_, task)| task.what == killer);
    for (key, task) in killers {
        let runs: u32 = task.attempts.values().sum();
        if !(CRASHES - 1..=CRASHES + 1).contains(&runs) {
            return Err(("a task that ends its process is given up", format!("{key}: it was run {runs} times")));
        }
    }
    let turns = state.audit.doomed_turns;
    if turns > CRASHES + 1 {
        return Err(("a turn that ends its process is given up", format!("it was taken {turns} times")));
    }
    Ok(())
}

/// Checks that a step with a result was run. Those of schedules are the engine's own, and leave no note.
fn steps_were_run(state: &State, runs: &[Run]) -> Found {
    for run in runs.iter().filter(|run| run.workflow != ScheduleWorkflow::NAME) {
        let with_result = |event: &Event| match event.kind {
            EventKind::StepCompleted { seq, .. } => Some(seq),
            _ => None,
        };
        let with_result = run.events.iter().filter_map(with_result).collect::<BTreeSet<_>>().len();
        let missing =
            (0..with_result).find(|number| !state.audit.calls.steps.contains_key(&format!("{}.{number}", run.run)));
        if let Some(number) = missing {
            return Err(("a step with a result was run", format!("{}: step {number}", run.name)));
        }
    }
    Ok(())
}
