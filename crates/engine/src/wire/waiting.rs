use std::collections::BTreeMap;

use partitura_workflow::{Event, EventKind, Execution};
use serde::{Deserialize, Serialize};

/// After how long, in milliseconds, a worker that runs a task has been heard of by each owner of its instance.
pub(crate) const UNHEARD: u64 = 35_000;

/// How many things a description names.
const MOST: usize = 100;

/// Something that an instance waits for. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Waiting {
    /// The result of a task. Without an attempt that reported itself, it may be that no worker runs the service.
    Task {
        /// The number of the call.
        seq: u32,
        /// The service's name.
        service: String,
        /// The method's name.
        method: String,
        /// When the workflow asked for it.
        scheduled_at: u64,
        /// The latest attempt that is known to the workflow, from 1: of a task that has sent a sign of life.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
        /// No worker has been heard of it for the 35 seconds or more since the workflow asked for it, though one that
        /// runs it for 2 seconds says so every half minute: no worker runs the service, all that do are busy, or the
        /// task waits for its next attempt.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unclaimed: bool,
        /// Its method has returned, and its [completion](crate::Client::complete_task) from outside is awaited.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        delegated: bool,
        /// Since when the method of that attempt has not come back to its worker, where that is 5 seconds or more: it
        /// loops, or blocks its thread, and neither a time-out nor a cancellation reaches it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held_up: Option<u64>,
    },
    /// A moment.
    Timer {
        /// The number of the timer.
        seq: u32,
        /// When it comes.
        due_at: u64,
    },
    /// The outcome of a child.
    Child {
        /// The number of the call.
        seq: u32,
        /// The name of the child's workflow.
        workflow: String,
        /// The child's id.
        id: String,
        /// When the workflow asked for it.
        started_at: u64,
    },
    /// The result of an inline step.
    Step {
        /// The number of the step.
        seq: u32,
        /// Its name.
        name: String,
        /// When the workflow asked for it.
        scheduled_at: u64,
    },
    /// A signal to a channel.
    Channel {
        /// The channel's name.
        name: String,
    },
    /// A condition on its own state, which signals change.
    Condition,
}

/// Knowledge of the owner of an instance about a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Its latest attempt.
    pub(crate) attempt: u32,
    pub(crate) is_delegated: bool,
    /// See [`Waiting::Task`].
    pub(crate) held_up: Option<u64>,
}

/// Lists the things that an instance with this history waits for, and counts them; `execution` is its code, unless that
/// cannot run.
pub(crate) fn list(
    history: &[Event],
    execution: Option<&Execution>,
    known_of: impl Fn(u32) -> Option<Known>,
) -> (Vec<Waiting>, usize) {
    let mut open = Open::default();
    history.iter().for_each(|event| open.record(event));
    open.list(execution, known_of)
}

/// Calls and timers of a history that have not ended, read event by event.
#[derive(Default)]
pub(crate) struct Open(BTreeMap<u32, Waiting>);

impl Open {
    pub(crate) fn record(&mut self, Event { at, kind }: &Event) {
        record(&mut self.0, *at, kind);
    }

    /// As [`list`] does.
    pub(crate) fn list(
        self,
        execution: Option<&Execution>,
        known_of: impl Fn(u32) -> Option<Known>,
    ) -> (Vec<Waiting>, usize) {
        let Self(mut open) = self;
        open.retain(|seq, _| execution.is_none_or(|execution| execution.is_open(*seq)));
        for (seq, waiting) in &mut open {
            if let (Waiting::Task { attempt, delegated, held_up, .. }, Some(known)) = (waiting, known_of(*seq)) {
                *attempt = (*attempt).max(Some(known.attempt));
                (*delegated, *held_up) = (known.is_delegated, known.held_up);
            }
        }
        let mut waiting: Vec<Waiting> = open.into_values().collect();
        if let Some(execution) = execution {
            waiting.extend(execution.awaited_channels().into_iter().map(|name| Waiting::Channel { name }));
            waiting.extend(std::iter::repeat_n(Waiting::Condition, execution.awaited_conditions()));
        }
        let all = waiting.len();
        waiting.truncate(MOST);
        (waiting, all)
    }
}

/// Marks the tasks of which no worker has been heard by `now`.
pub(crate) fn mark_unclaimed(all: &mut [Waiting], now: u64) {
    for waiting in all {
        if let Waiting::Task { scheduled_at, attempt, unclaimed, .. } = waiting {
            *unclaimed = attempt.is_none() && now.saturating_sub(*scheduled_at) >= UNHEARD;
        }
    }
}

fn record(open: &mut BTreeMap<u32, Waiting>, at: u64, kind: &EventKind) {
    match kind {
        EventKind::TaskScheduled { seq, service, method, .. } => {
            let (service, method) = (service.clone(), method.clone());
            let (seq, attempt, unclaimed, delegated, held_up) = (*seq, None, false, false, None);
            let task = Waiting::Task { seq, service, method, scheduled_at: at, attempt, unclaimed, delegated, held_up };
            open.insert(seq, task);
        }
        EventKind::TaskHeartbeat { seq, attempt: beat, .. } => {
            if let Some(Waiting::Task { attempt, .. }) = open.get_mut(seq) {
                *attempt = (*attempt).max(Some(*beat));
            }
        }
        EventKind::TimerStarted { seq, due_at_ms, .. } => {
            open.insert(*seq, Waiting::Timer { seq: *seq, due_at: *due_at_ms });
        }
        EventKind::ChildStarted { seq, workflow, id, detached: false, .. } => {
            let (workflow, id) = (workflow.clone(), id.clone());
            open.insert(*seq, Waiting::Child { seq: *seq, workflow, id, started_at: at });
        }
        EventKind::StepScheduled { seq, name } => {
            open.insert(*seq, Waiting::Step { seq: *seq, name: name.clone(), scheduled_at: at });
        }
        // These await nothing; all else that has a number ends something.
        EventKind::SignalSent { .. }
        | EventKind::EndRequested { .. }
        | EventKind::SendRefused { .. }
        | EventKind::VersionMarked { .. }
        | EventKind::AttributeSet { .. } => {}
        end if end.is_end() => open.clear(),
        other => {
            if let Some(seq) = other.seq() {
                open.remove(&seq);
            }
        }
    }
}
