use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Failure, FailureKind, InvalidId, Payload, PayloadError};

/// Why a task or a step gave no result.
///
/// It is serializable, so that it can be part of a workflow's own error type:
///
/// ```
/// # use serde::{Serialize, Deserialize};
/// # use partitura_workflow::{Cancelled, TaskError};
/// # #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
/// # #[error("declined")]
/// # struct Declined;
/// #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
/// enum CheckoutError {
///     #[error("payment: {0}")]
///     Payment(#[from] TaskError<Declined>),
///     #[error(transparent)]
///     Cancelled(#[from] Cancelled),
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TaskError<E> {
    /// The service answered with its own error.
    #[error("{0}")]
    Failed(E),
    /// No result within the time-out, after all attempts.
    #[error("the task timed out")]
    TimedOut,
    /// The service's code panicked, in all attempts.
    #[error("the task panicked: {0}")]
    Panicked(String),
    /// The task, or the whole workflow, was cancelled while it was awaited.
    #[error("the task was cancelled")]
    Cancelled,
    /// The worker went silent, in all attempts.
    #[error("the worker of the task was lost")]
    WorkerLost,
    /// No worker took the task within its [`start_timeout`](crate::Task::start_timeout): none runs the service, or all
    /// that do are busy. It was not called.
    #[error("no worker took the task in time")]
    NotStarted,
    /// Nobody knows this service or method, or one side could not read what the other wrote.
    #[error("{0}")]
    Unknown(String),
}

impl<E> TaskError<E> {
    /// Its code, for logs, dashboards and alerts. `docs/reference/errors.md` says what to do about each.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failed(_) => "task_failed",
            Self::TimedOut => "task_timed_out",
            Self::Panicked(_) => "task_panicked",
            Self::Cancelled => "task_cancelled",
            Self::WorkerLost => "task_worker_lost",
            Self::NotStarted => "task_not_started",
            Self::Unknown(_) => "task_unknown",
        }
    }

    /// The service's own error, if that is what it is.
    pub fn into_failed(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl<E> From<Cancelled> for TaskError<E> {
    /// For code that awaits tasks and timers: `cx.sleep(…).await?`.
    fn from(Cancelled: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl<E: DeserializeOwned> From<Failure> for TaskError<E> {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Application => typed(failure).map_or_else(Self::Unknown, Self::Failed),
            FailureKind::Panic => Self::Panicked(failure.message),
            FailureKind::TimedOut => Self::TimedOut,
            FailureKind::Cancelled | FailureKind::Terminated => Self::Cancelled,
            FailureKind::WorkerLost => Self::WorkerLost,
            FailureKind::NotStarted => Self::NotStarted,
            FailureKind::Unknown => Self::Unknown(failure.message),
        }
    }
}

/// Why a child workflow, or a workflow awaited by a client, gave no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChildError<E> {
    /// The workflow returned its own error.
    #[error("{0}")]
    Failed(E),
    /// The workflow returned its own error, and compensations failed: not all is undone that it had done.
    #[error("{error}; {} of its compensations failed", .compensations.len())]
    Uncompensated {
        /// The workflow's own error.
        error: E,
        /// How its compensations failed, in the order in which they ran.
        compensations: Vec<Failure>,
    },
    /// The workflow ran longer than it was allowed to.
    #[error("the workflow timed out")]
    TimedOut,
    /// The workflow was cancelled, or the one that awaits it was.
    #[error("the workflow was cancelled")]
    Cancelled,
    /// An operator ended the workflow.
    #[error("the workflow was terminated: {0}")]
    Terminated(String),
    /// The workflow could not be started, or one side could not read what the other wrote.
    #[error("{0}")]
    Unknown(String),
}

impl<E> ChildError<E> {
    /// Its code, as [`TaskError::code`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failed(_) => "child_failed",
            Self::Uncompensated { .. } => "child_uncompensated",
            Self::TimedOut => "child_timed_out",
            Self::Cancelled => "child_cancelled",
            Self::Terminated(_) => "child_terminated",
            Self::Unknown(_) => "child_unknown",
        }
    }
}

impl<E: DeserializeOwned> From<Failure> for ChildError<E> {
    fn from(mut failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Application => {
                let compensations = std::mem::take(&mut failure.compensations);
                match typed(failure) {
                    Ok(error) if compensations.is_empty() => Self::Failed(error),
                    Ok(error) => Self::Uncompensated { error, compensations },
                    Err(problem) => Self::Unknown(problem),
                }
            }
            FailureKind::TimedOut => Self::TimedOut,
            FailureKind::Cancelled => Self::Cancelled,
            FailureKind::Terminated => Self::Terminated(failure.message),
            FailureKind::Panic | FailureKind::WorkerLost | FailureKind::NotStarted | FailureKind::Unknown => {
                Self::Unknown(failure.to_string())
            }
        }
    }
}

/// The application's error out of a failure, or what to say instead.
fn typed<E: DeserializeOwned>(failure: Failure) -> Result<E, String> {
    let Failure { message, details, .. } = failure;
    details.unwrap_or_else(Payload::null).decode().map_err(|error| format!("{message} ({error})"))
}

/// The workflow was cancelled while this was awaited, or the awaited thing itself was.
///
/// Cancellation is an edge: whatever is awaited when it arrives resolves with this, and what the code awaits afterwards
/// (to clean up, to compensate) works as ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// Why [`Channel::recv`](crate::Channel::recv) gave no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ReceiveError {
    /// The workflow was cancelled while it waited.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A signal came whose payload is not of the channel's type. It is used up; the next `recv` takes the next one.
    #[error("signal on channel {channel}: {error}")]
    Payload {
        /// The channel's name.
        channel: String,
        /// The mismatch.
        error: PayloadError,
    },
}

/// Why something was not sent to another workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SendError {
    /// Nobody can have this id.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// The value could not be encoded, or is too large for a message of the broker.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// Why an update was not applied. Nothing was recorded, and nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum UpdateRefusal {
    /// The workflow has no update of this name.
    #[error("workflow {workflow} has no update `{update}`; it has {known:?}")]
    Unknown {
        /// The workflow's name.
        workflow: String,
        /// The update that was asked for.
        update: String,
        /// The updates there are.
        known: Vec<String>,
    },
    /// The arguments do not have the expected type.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The update's validator returned this error.
    #[error("{0}")]
    Invalid(Failure),
    /// The update's validator panicked.
    #[error("the validator panicked: {0}")]
    Panicked(String),
}

/// Why a query gave no answer. A query never changes the instance, whatever its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum QueryError {
    /// The workflow has no query of this name.
    #[error("workflow {workflow} has no query `{query}`; it has {known:?}")]
    Unknown {
        /// The workflow's name.
        workflow: String,
        /// The query that was asked for.
        query: String,
        /// The queries there are.
        known: Vec<String>,
    },
    /// The arguments or the answer do not have the expected type.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The query's code panicked.
    #[error("the query panicked: {0}")]
    Panicked(String),
}
