//! The activities of an instance: one row for each call, child, wait and message.

use std::collections::HashMap;

use partitura_workflow::{Event, EventKind, Payload, TooLarge};
use serde::Serialize;

/// One thing of an instance's history, from its first event to its last.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// The kind of thing.
    pub kind: RowKind,
    /// The number of the call, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u32>,
    /// Its name: `Payments.charge`, `3d`, `Delivery/order-42`.
    pub name: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub from: u64,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// A timer: when it is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// Where it stands.
    pub state: RowState,
    /// How many attempts were made, as far as the history says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    /// The result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Payload>,
    /// How it failed, or what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Another instance: its workflow and its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<(String, String)>,
    /// The number of its first event, from 0.
    pub event: usize,
}

/// The subject of a [`Row`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RowKind {
    /// A method of a service.
    Task,
    /// A wait for a moment.
    Timer,
    /// Another workflow, run by this one.
    Child,
    /// An inline step.
    Step,
    /// A signal that came.
    Signal,
    /// A change that somebody asked for and got an answer to.
    Update,
    /// A signal to another instance.
    Sent,
    /// A decision for a version of a change.
    Version,
    /// The request to cancel.
    Cancel,
    /// The code could not go on.
    Stop,
    /// Somebody had it wait.
    Pause,
    /// Somebody acted on it by hand.
    Repair,
}

impl RowKind {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Timer => "timer",
            Self::Child => "child",
            Self::Step => "step",
            Self::Signal => "signal",
            Self::Update => "update",
            Self::Sent => "sent",
            Self::Version => "version",
            Self::Cancel => "cancel",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Repair => "repair",
        }
    }
}

/// Where the thing of a [`Row`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RowState {
    /// It is awaited.
    Open,
    /// It has ended well.
    Done,
    /// It has failed.
    Failed,
    /// The workflow has taken it back, or ended before it.
    Cancelled,
    /// It goes on, and is no longer awaited.
    Detached,
}

impl RowState {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Detached => "detached",
        }
    }
}

/// The rows of these events, the first of which has the number `first`. Events about something that began before them
/// have a row that begins with them.
pub fn rows(first: usize, events: &[Event]) -> Vec<Row> {
    let mut rows = Rows::default();
    for (number, event) in (first..).zip(events) {
        rows.add(number, event);
    }
    rows.rows
}

/// Whether an event says that something has failed.
pub fn is_failure(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::TaskFailed { .. }
            | EventKind::ChildFailed { .. }
            | EventKind::StepFailed { .. }
            | EventKind::UpdateFailed { .. }
            | EventKind::WorkflowStopped { .. }
            | EventKind::WorkflowFailed { .. }
            | EventKind::WorkflowRetried { .. }
    )
}

#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    by_seq: HashMap<u32, usize>,
    updates: HashMap<String, usize>,
}

impl Rows {
    fn add(&mut self, number: usize, event: &Event) {
        let Event { at, kind } = event;
        if let Some(row) = begun(number, *at, kind) {
            if let Some(seq) = row.seq {
                self.by_seq.insert(seq, self.rows.len());
            }
            if let EventKind::UpdateReceived { id, .. } = kind {
                self.updates.insert(id.clone(), self.rows.len());
            }
            self.rows.push(row);
            return;
        }
        match kind {
            EventKind::WorkflowResumed { .. } => {
                let held = self.rows.iter_mut().filter(|row| matches!(row.kind, RowKind::Stop | RowKind::Pause));
                for row in held.filter(|row| row.to.is_none()) {
                    (row.to, row.state) = (Some(*at), RowState::Done);
                }
            }
            EventKind::UpdateCompleted { id, result } => {
                if let Some(row) = self.updated(id) {
                    (row.to, row.state, row.output) = (Some(*at), RowState::Done, Some(result.clone()));
                }
            }
            EventKind::UpdateFailed { id, failure } => {
                if let Some(row) = self.updated(id) {
                    (row.to, row.state, row.error) = (Some(*at), RowState::Failed, Some(failure.to_string()));
                }
            }
            end if end.is_end() => self.close(*at),
            other => self.end(number, *at, other),
        }
    }

    fn updated(&mut self, id: &str) -> Option<&mut Row> {
        self.updates.get(id).and_then(|index| self.rows.get_mut(*index))
    }

    /// Whatever is open when the instance ends is no longer awaited.
    fn close(&mut self, at: u64) {
        for row in self.rows.iter_mut().filter(|row| row.state == RowState::Open) {
            (row.to, row.state) = (Some(at), RowState::Cancelled);
        }
    }

    fn end(&mut self, number: usize, at: u64, kind: &EventKind) {
        let Some(seq) = kind.seq() else { return };
        let index = *self.by_seq.entry(seq).or_insert_with(|| {
            self.rows.push(unseen(number, at, seq, kind));
            self.rows.len() - 1
        });
        let Some(row) = self.rows.get_mut(index) else { return };
        let state = match kind {
            EventKind::TaskHeartbeat { attempt, .. } => {
                row.attempts = row.attempts.max(Some(*attempt));
                return;
            }
            EventKind::TaskCompleted { result, .. }
            | EventKind::ChildCompleted { result, .. }
            | EventKind::StepCompleted { result, .. } => {
                row.output = Some(result.clone());
                RowState::Done
            }
            EventKind::TaskFailed { failure, attempts, .. } => {
                (row.attempts, row.error) = (Some(*attempts), Some(failure.to_string()));
                RowState::Failed
            }
            EventKind::ChildFailed { failure, .. } | EventKind::StepFailed { failure, .. } => {
                row.error = Some(failure.to_string());
                RowState::Failed
            }
            EventKind::TimerFired { .. } => RowState::Done,
            EventKind::Detached { .. } => RowState::Detached,
            EventKind::TaskCancelRequested { .. }
            | EventKind::TimerCancelled { .. }
            | EventKind::ChildCancelRequested { .. } => RowState::Cancelled,
            // An event that this version does not know changes nothing here; the raw history shows it.
            _ => return,
        };
        // Nothing that comes after a cancellation is awaited.
        if row.state == RowState::Open {
            row.state = state;
        }
        row.to.get_or_insert(at);
    }
}

/// The row that an event begins, if it begins one.
fn begun(number: usize, at: u64, kind: &EventKind) -> Option<Row> {
    let open = |kind, name: String| Row::new(number, at, kind, name);
    let row = match kind {
        EventKind::TaskScheduled { seq, service, method, args, .. } => {
            let row = open(RowKind::Task, format!("{service}.{method}")).numbered(*seq);
            Row { input: Some(args.clone()), ..row }
        }
        EventKind::TimerStarted { seq, due_at_ms, .. } => {
            let name = crate::text::span(due_at_ms.saturating_sub(at));
            Row { due: Some(*due_at_ms), ..open(RowKind::Timer, name).numbered(*seq) }
        }
        EventKind::ChildStarted { seq, workflow, id, input, .. } => {
            let row = open(RowKind::Child, format!("{workflow}/{id}")).numbered(*seq);
            Row { input: Some(input.clone()), instance: Some((workflow.clone(), id.clone())), ..row }
        }
        EventKind::StepScheduled { seq, name } => open(RowKind::Step, name.clone()).numbered(*seq),
        EventKind::SignalReceived { name, payload, .. } => {
            Row { input: Some(payload.clone()), ..open(RowKind::Signal, name.clone()).momentary(at) }
        }
        EventKind::UpdateReceived { name, args, .. } => {
            Row { input: Some(args.clone()), ..open(RowKind::Update, name.clone()) }
        }
        EventKind::SignalSent { seq, workflow, id, name, payload } => {
            let row = open(RowKind::Sent, format!("{name} to {workflow}/{id}")).numbered(*seq).momentary(at);
            Row { input: Some(payload.clone()), instance: Some((workflow.clone(), id.clone())), ..row }
        }
        EventKind::SendRefused { seq, workflow, id, bytes, limit } => {
            let row = open(RowKind::Sent, format!("to {workflow}/{id}")).numbered(*seq).momentary(at);
            let too_large = TooLarge { bytes: *bytes, limit: *limit };
            let instance = Some((workflow.clone(), id.clone()));
            Row { error: Some(too_large.to_string()), state: RowState::Failed, instance, ..row }
        }
        EventKind::VersionMarked { seq, change, version } => {
            open(RowKind::Version, format!("{change} = {version}")).numbered(*seq).momentary(at)
        }
        EventKind::CancelRequested { reason } => {
            open(RowKind::Cancel, reason.clone().unwrap_or_else(|| "cancel".to_owned())).momentary(at)
        }
        EventKind::WorkflowStopped { reason } => {
            let row = open(RowKind::Stop, "stopped".to_owned());
            Row { error: Some(reason.clone()), state: RowState::Failed, ..row }
        }
        EventKind::WorkflowPaused { reason } => {
            Row { error: Some(reason.clone()), ..open(RowKind::Pause, "paused".to_owned()) }
        }
        EventKind::Intervened { action, reason, .. } => {
            open(RowKind::Repair, format!("{action}: {reason}")).momentary(at)
        }
        _ => return None,
    };
    Some(row)
}

/// The row of something whose beginning is not among the events.
fn unseen(number: usize, at: u64, seq: u32, kind: &EventKind) -> Row {
    let of = match kind {
        EventKind::TimerFired { .. } | EventKind::TimerCancelled { .. } => RowKind::Timer,
        EventKind::ChildCompleted { .. } | EventKind::ChildFailed { .. } | EventKind::ChildCancelRequested { .. } => {
            RowKind::Child
        }
        EventKind::StepCompleted { .. } | EventKind::StepFailed { .. } => RowKind::Step,
        _ => RowKind::Task,
    };
    Row::new(number, at, of, format!("#{seq}")).numbered(seq)
}

impl Row {
    fn new(event: usize, from: u64, kind: RowKind, name: String) -> Self {
        let (seq, to, due, attempts, input, output, error, instance) = Default::default();
        let state = RowState::Open;
        Self { kind, seq, name, from, to, due, state, attempts, input, output, error, instance, event }
    }

    fn numbered(self, seq: u32) -> Self {
        Self { seq: Some(seq), ..self }
    }

    fn momentary(self, at: u64) -> Self {
        Self { to: Some(at), state: RowState::Done, ..self }
    }
}

#[cfg(test)]
mod tests {
    use partitura_workflow::{Failure, FailureKind};

    use super::*;

    fn task(seq: u32) -> EventKind {
        let (service, method) = ("Payments".to_owned(), "charge".to_owned());
        EventKind::TaskScheduled { seq, service, method, args: Payload::null(), options: Default::default() }
    }

    fn seen(events: Vec<EventKind>) -> Vec<(String, RowState, Option<u64>)> {
        let events: Vec<Event> = (1..).zip(events).map(|(at, kind)| Event::new(at * 1_000, kind)).collect();
        rows(0, &events).into_iter().map(|row| (row.name, row.state, row.to)).collect()
    }

    #[test]
    fn a_task_is_one_row_from_its_call_to_its_result() {
        let failed =
            EventKind::TaskFailed { seq: 2, failure: Failure::new(FailureKind::TimedOut, "late"), attempts: 3 };
        let events = vec![task(1), task(2), EventKind::TaskCompleted { seq: 1, result: Payload::null() }, failed];
        let name = "Payments.charge".to_owned();
        assert_eq!(seen(events), [(name.clone(), RowState::Done, Some(3_000)), (name, RowState::Failed, Some(4_000))]);
    }

    #[test]
    fn whatever_is_open_at_the_end_was_given_up_then() {
        let timer = EventKind::TimerStarted { seq: 1, due_at_ms: 90_001_000, after_ms: None };
        let end = EventKind::WorkflowCompleted { result: Payload::null() };
        assert_eq!(seen(vec![timer, end]), [("1 d 1 h".to_owned(), RowState::Cancelled, Some(2_000))]);
    }

    #[test]
    fn a_result_whose_call_is_before_the_page_has_a_row_of_its_own() {
        let events = vec![EventKind::ChildCompleted { seq: 7, result: Payload::null() }];
        assert_eq!(seen(events), [("#7".to_owned(), RowState::Done, Some(1_000))]);
    }

    #[test]
    fn a_stop_lasts_until_the_code_goes_on() {
        let stopped = EventKind::WorkflowStopped { reason: "it panicked".to_owned() };
        let resumed = EventKind::WorkflowResumed { refused: Default::default() };
        assert_eq!(seen(vec![stopped.clone()]), [("stopped".to_owned(), RowState::Failed, None)]);
        assert_eq!(seen(vec![stopped, resumed]), [("stopped".to_owned(), RowState::Done, Some(2_000))]);
    }
}
