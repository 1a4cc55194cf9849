//! Commands to instances.

use bytes::Bytes;
use partitura_broker::{Message, TopicName};
use partitura_workflow::{EventKind, Failure, Payload};
use serde::{Deserialize, Serialize};

use super::later::Later;
use super::outcome::Outcome;
use super::payloads::Payloads;
use super::reply_to::ReplyTo;
use super::start::Start;
use super::summary::Filter;
use super::task::TaskRequest;

/// A command to one instance of a workflow, keyed by the instance's id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Command {
    Start(Box<Start>),
    Signal {
        name: String,
        payload: Payload,
        #[serde(default, skip_serializing_if = "Request::is_default")]
        request: Request,
    },
    Update {
        name: String,
        args: Payload,
        #[serde(default, skip_serializing_if = "Request::is_default")]
        request: Request,
    },
    Cancel {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        #[serde(default, skip_serializing_if = "Request::is_default")]
        request: Request,
    },
    Terminate {
        reason: String,
        #[serde(default, skip_serializing_if = "Request::is_default")]
        request: Request,
    },
    TaskDone {
        run: String,
        seq: u32,
        attempts: u32,
        outcome: Outcome,
        /// Not by the worker that ran the attempt, but from outside.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        completion: Option<Completion>,
    },
    /// An attempt has ended without a result, which comes from outside.
    TaskDelegated {
        /// The attempt.
        request: Box<TaskRequest>,
        /// When its time-out is over, in milliseconds since the Unix epoch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<u64>,
        /// The details of the attempt's last heartbeat.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Payload>,
    },
    /// The overall time-out of a task that may never have been picked up.
    TaskExpired {
        run: String,
        seq: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        later: Option<Later>,
    },
    /// The time-out for the start of a task. An instance sends it to itself.
    TaskUnstarted {
        run: String,
        seq: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        later: Option<Later>,
    },
    /// The time of a run is over. An instance sends it to itself.
    RunExpired {
        run: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        later: Option<Later>,
    },
    /// A run that has ended is to be deleted by now. The owner of its partition says it.
    Expire {
        run: String,
        /// When that was due, in milliseconds since the Unix epoch.
        due: u64,
    },
    /// Delete the instance, which must have ended, with all its runs.
    Delete {
        #[serde(default, skip_serializing_if = "Request::is_default")]
        request: Request,
    },
    /// A running task is alive, or asks whether it is still wanted.
    Heartbeat {
        run: String,
        seq: u32,
        attempt: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Payload>,
        /// `false`: only asks.
        alive: bool,
        /// From outside: the attempt itself may have ended.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_token: bool,
        /// Since when the method has not come back to the worker, in milliseconds since the Unix epoch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held_up: Option<u64>,
        reply_to: ReplyTo,
    },
    /// The heartbeat time-out of a task may have passed. An instance sends it to itself.
    HeartbeatDue {
        run: String,
        seq: u32,
        /// When it was to come, in milliseconds since the Unix epoch.
        due: u64,
    },
    /// An attempt of a task with a heartbeat time-out failed and is to be followed by another: the instance, which may
    /// have given the attempt up already, starts it.
    AttemptFailed {
        /// The attempt.
        request: Box<TaskRequest>,
        failure: Failure,
        /// When the next attempt is to begin, in milliseconds since the Unix epoch.
        retry_at: u64,
        /// The details of the attempt's last heartbeat.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Payload>,
    },
    TimerDue {
        run: String,
        seq: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        later: Option<Later>,
    },
    ChildDone {
        run: String,
        seq: u32,
        outcome: Outcome,
    },
    StepDone {
        run: String,
        seq: u32,
        outcome: Outcome,
    },
    /// A step was scheduled a while ago: does it still run?
    StepOverdue {
        run: String,
        seq: u32,
        /// How often that was asked before.
        #[serde(default)]
        asked: u32,
    },
    /// A step runs for long, and still does.
    StepAlive {
        run: String,
        seq: u32,
    },
    /// The broker refuses for good what a turn of this run decided to send. It is set aside.
    Undelivered {
        run: String,
        reason: String,
    },
    /// Try a stopped instance again, unless it is paused.
    Resume,
    /// Let the code of a paused or stopped instance run, by hand.
    GoOn {
        /// Why, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        #[serde(default, skip_serializing_if = "Request::is_default")]
        request: Request,
    },
    /// Go on from an earlier event of a history.
    Reset {
        reset: Box<Reset>,
        #[serde(default, skip_serializing_if = "Request::is_default")]
        request: Request,
    },
    /// Take this for the result of an open task.
    Skip {
        seq: u32,
        result: Payload,
        /// Why, for people.
        reason: String,
        #[serde(default, skip_serializing_if = "Request::is_default")]
        request: Request,
    },
    /// Let an open timer fire now.
    FireTimer {
        seq: u32,
        /// Why, for people.
        reason: String,
        #[serde(default, skip_serializing_if = "Request::is_default")]
        request: Request,
    },
    /// Let no code of the instance run until it is let go on.
    Pause {
        /// Why, for people.
        reason: String,
        #[serde(default, skip_serializing_if = "Request::is_default")]
        request: Request,
    },
    /// The code of a run could not go on a while ago. Perhaps it can in the worker that gets this.
    TryAgain {
        run: String,
        /// How often that was tried before.
        tried: u32,
    },
    Query {
        name: String,
        args: Payload,
        reply_to: ReplyTo,
    },
    Await {
        reply_to: ReplyTo,
        /// That it is stopped is an answer, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stops: bool,
    },
    Describe {
        reply_to: ReplyTo,
    },
    History {
        /// Of this run, else of the latest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<String>,
        /// From this event on, counted from 0.
        #[serde(default)]
        from: usize,
        /// From this byte of it on.
        #[serde(default)]
        offset: usize,
        reply_to: ReplyTo,
    },
    /// Not about one instance: whichever worker owns the key answers from the shared store.
    List {
        filter: Filter,
        reply_to: ReplyTo,
    },
}

impl Command {
    /// The address that waits for an answer, if this only asks and changes nothing.
    pub(crate) fn asker(&self) -> Option<&ReplyTo> {
        match self {
            Self::Query { reply_to, .. }
            | Self::Await { reply_to, .. }
            | Self::Describe { reply_to }
            | Self::History { reply_to, .. }
            | Self::List { reply_to, .. } => Some(reply_to),
            _ => None,
        }
    }

    /// Whether its payload is for the code of the instance.
    pub(crate) fn is_read_by_code(&self) -> bool {
        !matches!(self, Self::Heartbeat { .. } | Self::AttemptFailed { .. } | Self::TaskDelegated { .. })
    }
}

/// The envelope of a task's result that comes from outside.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Completion {
    /// The address that waits for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<ReplyTo>,
}

/// The envelope of a signal, an update, a cancellation or a termination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The sender's own name for it: a signal or an update of the same id is applied once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// For this run only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<String>,
    /// The address that waits for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<ReplyTo>,
}

impl Request {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where an instance goes on from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reset {
    /// The instance that the history is of, if it is another of the same workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// The run that the history is of.
    pub(crate) run: String,
    /// How many events of it are kept.
    pub(crate) events: usize,
    /// The run that goes on from there. A copy of the command finds it.
    pub(crate) new_run: String,
    /// The event that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) then: Option<EventKind>,
    /// The name of the action, for the history.
    pub(crate) action: String,
    /// Why, for people.
    pub(crate) reason: String,
}

/// A command on its way to an instance.
pub(crate) fn command(
    payloads: &Payloads,
    topic: &TopicName,
    id: &str,
    message_id: String,
    command: &Command,
) -> Message {
    Message::new(topic.clone(), message_id, payloads.encode(command)).key(Bytes::copy_from_slice(id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_survives_the_wire_with_its_payload_untouched() {
        let json = r#"{"a": [1,  2]}"#;
        let payload = Payload::from_json(json).unwrap();
        let command = Command::Signal { name: "n".into(), payload, request: Request::default() };
        let Command::Signal { payload, .. } = crate::wire::decode(&crate::wire::encode(&command)).unwrap() else {
            panic!("another command")
        };
        assert_eq!(payload.as_json(), json);
    }
}
