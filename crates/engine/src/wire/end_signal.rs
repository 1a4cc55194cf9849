//! Signals that tell a workflow how an instance has ended that it started and did not await.

use partitura_workflow::FailureKind;
use serde::{Deserialize, Serialize};

use super::Outcome;
use super::shorten::shorten;

/// The longest message of a failure, in bytes.
const MESSAGE: usize = 512;

/// Where the end of an instance is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndSignal {
    pub(crate) workflow: String,
    pub(crate) id: String,
    pub(crate) channel: String,
    /// The run that was asked for. It tells one start from the next.
    pub(crate) request: String,
}

/// The content of the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToldEnd {
    /// The instance's id.
    pub(crate) id: String,
    pub(crate) end: ActionEnd,
}

/// How an instance has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ActionEnd {
    /// With a result.
    Completed,
    /// With an error.
    Failed(String),
    /// It was cancelled.
    Cancelled(String),
    /// It was ended without its code.
    Terminated(String),
    /// Its time was up.
    TimedOut(String),
}

impl From<&Outcome> for ActionEnd {
    fn from(outcome: &Outcome) -> Self {
        let failure = match outcome {
            Outcome::Ok(_) => return Self::Completed,
            Outcome::Err(failure) => failure,
        };
        let mut message = failure.message.clone();
        shorten(&mut message, MESSAGE);
        match failure.kind {
            FailureKind::Cancelled => Self::Cancelled(message),
            FailureKind::Terminated => Self::Terminated(message),
            FailureKind::TimedOut => Self::TimedOut(message),
            _ => Self::Failed(message),
        }
    }
}
