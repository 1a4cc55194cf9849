//! Answers to clients and tasks.

use partitura_broker::{InboxAddress, Message, TopicName};
use partitura_workflow::{Event, Failure, Payload};
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::payloads::Payloads;
use super::reply_to::ReplyTo;
use super::summary::Summary;
use super::token::TokenRefusal;

/// A message to an inbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) request: u64,
    pub(crate) body: ReplyBody,
}

/// Asks at an inbox for the time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TimeQuestion {
    pub(crate) time_for: ReplyTo,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ReplyBody {
    /// To a [`TimeQuestion`], in milliseconds since the Unix epoch.
    Time(u64),
    /// To `Start`: the instance's run, and whether this start began it.
    Started { run: String, is_new: bool },
    /// To all else that is to be recorded: it is. The handler of an update has begun; its result comes later.
    Accepted,
    /// To `Start` with [`StartPolicy::Reject`](super::StartPolicy::Reject).
    Rejected { run: String },
    /// To `Update`: it is applied, and this is what its handler returned.
    Updated(Outcome),
    /// To `Update`: the run ended before the handler did.
    Interrupted { run: String },
    /// To `Update`: its validator has refused it, with this error of its own.
    Invalid(Failure),
    /// To `Signal`, `Update`, `Cancel` and `Terminate`: the run has ended.
    Closed { run: String },
    /// To `Signal`, `Update`, `Cancel` and `Terminate`: the latest run is another.
    AnotherRun { run: String },
    /// The workflow ended.
    Ended(Outcome),
    /// To `Await` and `Update`: its code cannot go on for now.
    Stopped { reason: String },
    /// The answer to a query.
    Answer(Payload),
    /// To `Describe`.
    Description(Box<Summary>),
    /// To `History`: events, and the number of the next one if there are more.
    HistoryPage { run: String, events: Vec<Event>, next: Option<usize> },
    /// To `History`: a part of the JSON text of one event that is too large for one reply.
    HistoryPart { run: String, text: String, last: bool },
    /// To `List`: summaries, and whether there are more behind them.
    Listing { page: Vec<Summary>, more: bool },
    /// To `Heartbeat`; also sent unasked, once the task is no longer wanted.
    Heartbeat {
        wanted: bool,
        details: Option<Payload>,
        /// The attempt that the details are of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
    },
    /// To `TaskDone` and `Heartbeat` from outside: the token has no effect.
    TokenRefused(TokenRefusal),
    /// Asks whether an attempt of a task still runs.
    StillRuns { reply_to: ReplyTo },
    /// To `StillRuns`: it does. There is no answer otherwise.
    Runs,
    /// There is no such instance.
    NotFound,
    /// It cannot be answered, and why.
    Refused(String),
    /// The answer is larger than the broker takes.
    TooLarge { bytes: usize, limit: usize },
}

/// A reply on its way to an inbox. Its topic is ignored. The caller is told when it is larger than `limit`.
pub(crate) fn reply(
    payloads: &Payloads,
    topic: &TopicName,
    to: &ReplyTo,
    body: ReplyBody,
    limit: usize,
) -> (InboxAddress, Message) {
    let mut payload = payloads.encode(&Reply { request: to.request, body });
    if payload.len() > limit {
        let body = ReplyBody::TooLarge { bytes: payload.len(), limit };
        payload = payloads.encode(&Reply { request: to.request, body });
    }
    (to.inbox.clone(), Message::new(topic.clone(), "reply", payload))
}
