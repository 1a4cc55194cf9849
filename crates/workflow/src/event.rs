use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Attribute, Failure, ParentEnd, Payload, Retry, Started, TaskOptions};

/// The version of the history's format that this crate writes. It reads this one and all before it.
pub const HISTORY_FORMAT: u32 = 1;

/// The version of the rules that instances live by which begin now; it is kept in [`Started::rules`]. Instances that
/// began under earlier rules keep those.
///
/// * 0: dropping a future leaves standing what it began.
/// * 1: dropping a future cancels what it began; compensations are shielded from cancellation; time never goes
///   backwards; ids that nobody can have are refused.
pub const RULES: u32 = 1;

/// One thing that happened to a workflow instance. Histories are append-only sequences of these, and readable for ever.
///
/// ```json
/// {"at":1700000000000,"event":{"TimerFired":{"seq":3}}}
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since the Unix epoch. For a command, the time of the input that led to it.
    pub at: u64,
    /// The event itself.
    #[serde(rename = "event")]
    pub kind: EventKind,
}

impl Event {
    /// An event at a time in milliseconds since the Unix epoch.
    pub fn new(at: u64, kind: EventKind) -> Self {
        Self { at, kind }
    }
}

/// The kind of an event.
///
/// There are *inputs* (they come from outside and move the code), *commands* (what the code asked for, recorded as
/// done) and *ends*. `seq` numbers what the code builds (tasks, timers, children, steps, …) from 1, in the order of
/// building.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// Input: the first event of every history.
    WorkflowStarted(Box<Started>),
    /// Input: somebody sent a signal.
    SignalReceived {
        /// The signal's name.
        name: String,
        /// Its arguments.
        payload: Payload,
        /// Identifies the message; a second signal with the same id is ignored.
        message_id: String,
    },
    /// Input: somebody sent an update, and its validator let it pass.
    UpdateReceived {
        /// The update's name.
        name: String,
        /// Its arguments.
        args: Payload,
        /// Identifies the update; a second one with the same id is ignored.
        id: String,
    },
    /// Input: somebody asked for the instance's cancellation.
    CancelRequested {
        /// Why, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Input: a task gave its result.
    TaskCompleted {
        /// Of which task.
        seq: u32,
        /// The result of the method.
        result: Payload,
    },
    /// Input: a task failed for good.
    TaskFailed {
        /// Of which task.
        seq: u32,
        /// How.
        failure: Failure,
        /// How many attempts were made.
        #[serde(default = "one")]
        attempts: u32,
    },
    /// Input, for the record only: a running task said that it is alive. Replay passes over it.
    TaskHeartbeat {
        /// Of which task.
        seq: u32,
        /// Of which attempt, from 1.
        attempt: u32,
        /// The details of the task's progress.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Payload>,
    },
    /// Input: a timer is due.
    TimerFired {
        /// Which timer.
        seq: u32,
    },
    /// Input: a child workflow completed.
    ChildCompleted {
        /// Which child.
        seq: u32,
        /// The result.
        result: Payload,
    },
    /// Input: a child workflow failed, was cancelled, or could not be started.
    ChildFailed {
        /// Which child.
        seq: u32,
        /// How.
        failure: Failure,
    },
    /// Input: a step ran.
    StepCompleted {
        /// Which step.
        seq: u32,
        /// The result.
        result: Payload,
    },
    /// Input: a step returned an error or panicked.
    StepFailed {
        /// Which step.
        seq: u32,
        /// How.
        failure: Failure,
    },

    /// Input, for the record: the code cannot go on. Signals that come from here to
    /// [`WorkflowResumed`](Self::WorkflowResumed) are kept unread.
    WorkflowStopped {
        /// The problem, and what to do about it.
        reason: String,
    },
    /// Input, for the record: the code goes on, and has read what was kept.
    WorkflowResumed {
        /// Signals among it that the code cannot read: what is wrong with each, by its message id. Replay passes over
        /// them.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        refused: BTreeMap<String, String>,
    },

    /// Input, for the record: somebody has paused the instance. Every message from here to
    /// [`WorkflowResumed`](Self::WorkflowResumed) is kept unread.
    WorkflowPaused {
        /// Why, for people.
        reason: String,
    },
    /// Input, for the record: somebody has acted on the instance by hand. Replay passes over it.
    Intervened {
        /// The name of the action.
        action: String,
        /// Why, for people.
        reason: String,
    },

    /// Command: run a service's method.
    TaskScheduled {
        /// The task's number.
        seq: u32,
        /// The service's name.
        service: String,
        /// The method's name.
        method: String,
        /// The arguments: a JSON object by argument name.
        args: Payload,
        /// How to run it.
        #[serde(default, skip_serializing_if = "TaskOptions::is_default")]
        options: TaskOptions,
    },
    /// Command: stop a task; its result is no longer awaited.
    TaskCancelRequested {
        /// Which task.
        seq: u32,
    },
    /// Command, for the record only: a task or a child is to outlive this workflow, which no longer awaits it.
    Detached {
        /// Of which task or child.
        seq: u32,
    },
    /// Command: wake the code at a time.
    TimerStarted {
        /// The timer's number.
        seq: u32,
        /// When, in milliseconds since the Unix epoch.
        due_at_ms: u64,
        /// How long it lasts, where the code said that and not a moment. Replay compares it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after_ms: Option<u64>,
    },
    /// Command: a timer is no longer needed.
    TimerCancelled {
        /// Which timer.
        seq: u32,
    },
    /// Command: start another workflow.
    ChildStarted {
        /// The child's number.
        seq: u32,
        /// The name of the child's workflow.
        workflow: String,
        /// The child's id.
        id: String,
        /// Its input.
        input: Payload,
        /// The parent neither awaits nor cancels it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        detached: bool,
        /// Labels to find it by.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tags: Vec<String>,
        /// An instance of its id that exists already makes way for it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replace: bool,
        /// An instance of its id that exists already is awaited in its place.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        use_existing: bool,
        /// The policy for the case that the parent ends first.
        #[serde(default, skip_serializing_if = "ParentEnd::is_default")]
        on_parent_end: ParentEnd,
        /// The channel of this workflow, in whichever run, that is told the end of a detached child.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end_channel: Option<String>,
        /// When a run of it that fails is tried again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry: Option<Retry>,
    },
    /// Command: cancel a child; its result is no longer awaited.
    ChildCancelRequested {
        /// Which child.
        seq: u32,
    },
    /// Command: run an inline step.
    StepScheduled {
        /// The step's number.
        seq: u32,
        /// Its name.
        name: String,
    },
    /// Command: signal another workflow.
    SignalSent {
        /// The signal's number.
        seq: u32,
        /// The name of the receiving workflow.
        workflow: String,
        /// The receiving instance's id.
        id: String,
        /// The signal's name.
        name: String,
        /// Its arguments.
        payload: Payload,
    },
    /// Command, for the record only: the handler of an update returned `Ok`, or a plain value.
    UpdateCompleted {
        /// Of which update.
        id: String,
        /// The result.
        result: Payload,
    },
    /// Command, for the record only: the handler of an update returned `Err`, or its result cannot be encoded.
    UpdateFailed {
        /// Of which update.
        id: String,
        /// How.
        failure: Failure,
    },
    /// Command: cancel or terminate another workflow.
    EndRequested {
        /// The request's number.
        seq: u32,
        /// The name of the other workflow.
        workflow: String,
        /// The other instance's id.
        id: String,
        /// It is ended without its code; else its code is asked to end.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        terminate: bool,
        /// Why, for people.
        reason: String,
    },
    /// Command, for the record only: a signal to another workflow, or the start of a child that is let go, is too large
    /// for a message of the broker. The code was told, and nothing was sent.
    SendRefused {
        /// The number that the signal or the child would have.
        seq: u32,
        /// The name of the other workflow.
        workflow: String,
        /// The other instance's id.
        id: String,
        /// The size of the payload.
        bytes: usize,
        /// The size of the largest that could have been sent.
        limit: usize,
    },
    /// Command, for the record only: the code decided for a version of a change.
    VersionMarked {
        /// The marker's number.
        seq: u32,
        /// Which change.
        change: String,
        /// The version decided for.
        version: u32,
    },
    /// Command, for the record only: the code said something of its instance by which that can be found.
    AttributeSet {
        /// The number of the call.
        seq: u32,
        /// The name of the attribute.
        name: String,
        /// Its value. `None`: it has none any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<Attribute>,
    },

    /// End: the code returned `Ok`.
    WorkflowCompleted {
        /// The result.
        result: Payload,
    },
    /// End: the code returned `Err`, or the engine ended the instance ([`is_imposed_end`](EventKind::is_imposed_end)).
    WorkflowFailed {
        /// How.
        failure: Failure,
    },
    /// End: the code returned `Err` after it was asked to cancel.
    WorkflowCancelled {
        /// The reason given with the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The failure that the code returned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// End of a run: the code goes on in a new run under the same id, see
    /// [`Cx::continue_as_new`](crate::Cx::continue_as_new).
    WorkflowContinued {
        /// The next run. The engine names it.
        #[serde(default)]
        run: String,
        /// The input of the next run.
        input: Payload,
        /// The version of the workflow that the next run lives with. `None`: that of this run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u32>,
    },
    /// End of a run: it failed, and is tried again in a new run under the same id, with the same input, see
    /// [`Started::retry`].
    WorkflowRetried {
        /// The next run. The engine names it.
        #[serde(default)]
        run: String,
        /// How this run failed.
        failure: Failure,
    },
}

fn one() -> u32 {
    1
}
