//! The command that starts an instance.

use partitura_workflow::{ParentRef, Payload, Retry, TraceContext};
use serde::{Deserialize, Serialize};

use super::end_signal::EndSignal;
use super::later::Later;
use super::reply_to::ReplyTo;

/// Starts an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) run: String,
    pub(crate) input: Payload,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<ParentRef>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    #[serde(default, skip_serializing_if = "StartPolicy::is_default")]
    pub(crate) policy: StartPolicy,
    /// Where the outcome is awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<ReplyTo>,
    /// When the instance is ended if it still runs, in milliseconds after its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
    /// How long each of its runs may last, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run_timeout_ms: Option<u64>,
    /// When a run that fails is tried again; else as the workflow says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<Retry>,
    /// A signal to the instance, whether it is started by this or there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<StartSignal>,
    /// An update of the instance, whether it is started by this or there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) update: Option<StartUpdate>,
    /// Where it is awaited whether the start was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accepted: Option<ReplyTo>,
    /// The receiver that is told how the instance ends, whether it is started by this or there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end_signal: Option<EndSignal>,
    /// It is not due yet: the moment is beyond the horizon of the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) later: Option<Later>,
    /// Where it stands in a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<TraceContext>,
}

impl Start {
    /// A start at once, by a client that does not wait.
    pub(crate) fn new(run: String, input: Payload) -> Self {
        Self {
            run,
            input,
            parent: None,
            tags: Vec::new(),
            policy: StartPolicy::default(),
            reply_to: None,
            timeout_ms: None,
            run_timeout_ms: None,
            retry: None,
            signal: None,
            update: None,
            accepted: None,
            end_signal: None,
            later: None,
            trace: None,
        }
    }
}

/// A signal that goes with a start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StartSignal {
    pub(crate) name: String,
    pub(crate) payload: Payload,
}

/// An update that goes with a start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StartUpdate {
    pub(crate) name: String,
    pub(crate) args: Payload,
    /// Its sender's name for it.
    pub(crate) id: String,
    /// Where its result is awaited.
    pub(crate) reply_to: ReplyTo,
}

/// The policy for an instance of the id that exists already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StartPolicy {
    /// Take the one that exists, running or closed: starting is idempotent by id.
    #[default]
    UseExisting,
    /// Refuse.
    Reject,
    /// Terminate a running one, and start anew.
    Replace,
    /// Start anew if it has ended; take one that runs.
    RestartEnded,
    /// Start anew if it has ended without a result (it failed, was cancelled or terminated); else take it.
    RestartFailed,
}

impl StartPolicy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
