//! Results of workflows, tasks and steps.

use partitura_workflow::{EventKind, Failure, FailureKind, Payload};
use serde::{Deserialize, Serialize};

/// A result, or how there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Ok(Payload),
    Err(Failure),
}

impl Outcome {
    /// Why there is no result.
    pub(crate) fn failure(&self) -> Option<FailureKind> {
        match self {
            Self::Ok(_) => None,
            Self::Err(failure) => Some(failure.kind),
        }
    }

    /// The outcome of a workflow, from the event that ended it.
    pub(crate) fn of_end(end: &EventKind) -> Option<Self> {
        use partitura_workflow::FailureKind::Cancelled;
        match end {
            EventKind::WorkflowCompleted { result } => Some(Self::Ok(result.clone())),
            EventKind::WorkflowFailed { failure } => Some(Self::Err(failure.clone())),
            EventKind::WorkflowCancelled { reason, failure } => {
                let message = reason.clone().unwrap_or_else(|| "the workflow was cancelled".to_owned());
                let cause = failure.clone().map(Box::new);
                Some(Self::Err(Failure { cause, ..Failure::new(Cancelled, message) }))
            }
            _ => None,
        }
    }
}
