use std::fmt;
use std::ops::RangeInclusive;

use crate::EventKind;

/// Why an instance cannot go on. Nothing is lost: its history stands, and with repaired code it is replayed and
/// continues.
///
/// After a stop the [`Execution`](super::Execution) is of no more use, except after [`StopReason::BadInput`], which
/// leaves it untouched.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("workflow {workflow}/{id} stopped: {reason}")]
pub struct Stop {
    /// The workflow's name.
    pub workflow: String,
    /// The instance's id.
    pub id: String,
    /// The cause.
    pub reason: StopReason,
}

/// The cause of a [`Stop`].
#[derive(Debug, Clone, PartialEq)]
pub enum StopReason {
    /// The code does not do what the history says it did, or not with the same values.
    NonDeterministic {
        /// Where in the history; the first event, `WorkflowStarted`, is 0.
        event_index: usize,
        /// The event of the history.
        history: String,
        /// The command of the code.
        code: String,
    },
    /// The history holds a version of a change that the code no longer, or not yet, supports.
    UnsupportedVersion {
        /// The name of the change.
        change: String,
        /// The instance's version of it.
        version: u32,
        /// The versions that the code supports.
        supported: RangeInclusive<u32>,
    },
    /// The instance lives with a version of the workflow that is not there.
    UnknownVersion {
        /// The instance's version.
        version: u32,
        /// Those that are there.
        known: Vec<u32>,
    },
    /// The code panicked.
    Panicked {
        /// The text of the panic.
        message: String,
    },
    /// The handler of a signal or of an update panicked. The code had no part in it.
    HandlerPanicked {
        /// Whose: `signal NAME` or `update NAME`.
        handler: String,
        /// The text of the panic.
        message: String,
    },
    /// The code waits for something that is not of its context: a runtime's timer, a socket, a lock, a thread.
    Foreign {
        /// How it was noticed.
        what: String,
    },
    /// The code is polled over and over without getting anywhere.
    Spinning,
    /// The history of the run is longer than it may be.
    HistoryTooLong {
        /// How many events it has.
        events: usize,
        /// How much it takes in the store.
        bytes: usize,
    },
    /// The input is not for this instance, or cannot be read; it was not applied, and the instance is as before.
    BadInput {
        /// The problem.
        problem: String,
    },
}

/// The code does at its place what the history says, but with other values: other arguments of a task, another input of
/// a child, another payload of a signal, another duration. The recorded value counts, and was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where in the history; the first event, `WorkflowStarted`, is 0.
    pub event_index: usize,
    /// The value of the history.
    pub history: String,
    /// The value that the code asks for now.
    pub code: String,
}

/// Which handler an input runs, if it runs one.
pub(super) fn handler_of(input: &EventKind) -> Option<String> {
    match input {
        EventKind::SignalReceived { name, .. } => Some(format!("signal {name}")),
        EventKind::UpdateReceived { name, .. } => Some(format!("update {name}")),
        _ => None,
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {}\n  history: {}   code: {}", self.event_index, self.history, self.code)
    }
}

impl From<Difference> for StopReason {
    fn from(Difference { event_index, history, code }: Difference) -> Self {
        Self::NonDeterministic { event_index, history, code }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonDeterministic { event_index, history, code } => write!(
                f,
                "non-deterministic at event {event_index}\n  history: {history}   code: {code}\n  \
                 the code changed under a running instance; guard the change with cx.version(\"…\", 1..=2), and the instance goes \
                 on when a worker with that code starts"
            ),
            Self::UnsupportedVersion { change, version, supported } => write!(
                f,
                "its history has version {version} of change {change:?}, the code supports {} to {}\n  \
                 bring the code of that version back, and the instance goes on when a worker with it starts",
                supported.start(),
                supported.end()
            ),
            Self::UnknownVersion { version, known } => write!(
                f,
                "it lives with version {version} of its workflow, this worker runs {known:?}\n  \
                 register that version beside the others, and the instance goes on when a worker with it starts"
            ),
            Self::Panicked { message } => write!(
                f,
                "its code panicked: {message}\n  repair the code; the instance goes on from its history when a worker with it starts"
            ),
            Self::HandlerPanicked { handler, message } => write!(
                f,
                "the handler of {handler} panicked: {message}\n  repair the code; the instance goes on from its history \
                 when a worker with it starts"
            ),
            Self::Foreign { what } => write!(
                f,
                "{what}\n  a workflow awaits only what its context gives: cx.sleep for time, a service or cx.step for I/O, \
                 cx.until or cx.channel for signals"
            ),
            Self::Spinning => f.write_str(
                "its code is polled over and over without getting anywhere\n  wait for something instead: cx.until, cx.channel, cx.sleep",
            ),
            Self::HistoryTooLong { events, bytes } => write!(
                f,
                "its history has {events} events and {bytes} bytes, which is more than is allowed\n  continue as new earlier \
                 (cx.continue_as_new); to let this instance go on, raise the limit (Builder::history_limits), or terminate it"
            ),
            Self::BadInput { problem } => f.write_str(problem),
        }
    }
}
