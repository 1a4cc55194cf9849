use std::time::Duration;

use partitura_workflow::{Failure, FailureKind, Payload, PayloadError};
use serde::de::DeserializeOwned;

use crate::wire::token::{TaskToken, TokenRefusal};

/// Why a client's request was not fulfilled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The broker.
    #[error(transparent)]
    Broker(#[from] partitura_broker::Error),
    /// There is an instance of this id, and the start was to be [refused](crate::StartPolicy::Reject) then.
    #[error("workflow {workflow}/{id} exists already, as run {run}")]
    AlreadyExists {
        /// The workflow's name.
        workflow: String,
        /// The instance's id.
        id: String,
        /// The run that exists.
        run: String,
    },
    /// There is no such instance.
    #[error("there is no workflow {workflow}/{id}; start it first")]
    NotFound {
        /// The workflow's name.
        workflow: String,
        /// The instance's id.
        id: String,
    },
    /// The instance has ended, so that what was sent had no effect.
    #[error("workflow {workflow}/{id} has ended, as run {run}")]
    Ended {
        /// The workflow's name.
        workflow: String,
        /// The instance's id.
        id: String,
        /// The run that has ended.
        run: String,
    },
    /// Another run was meant than the one there is.
    #[error("the run of workflow {workflow}/{id} is {run}, not the one that was named")]
    AnotherRun {
        /// The workflow's name.
        workflow: String,
        /// The instance's id.
        id: String,
        /// Its latest run.
        run: String,
    },
    /// The task takes no completion by this token any more, so that what was sent had no effect.
    #[error("the task of token {token} {reason}")]
    TokenRefused {
        /// The token.
        token: Box<TaskToken>,
        /// The state of the task.
        reason: TokenRefusal,
    },
    /// The message is too large. Nothing was sent.
    #[error(
        "what is sent to {workflow}/{id} has {bytes} bytes, {limit} are allowed: the broker takes {taken}, and the engine needs some \
         of them; keep large data elsewhere and send a reference"
    )]
    TooLarge {
        /// The workflow's name.
        workflow: String,
        /// The instance's id.
        id: String,
        /// Its size.
        bytes: usize,
        /// How many bytes may be sent to an instance of this name.
        limit: usize,
        /// How many the broker takes in one message.
        taken: usize,
    },
    /// The answer is larger than the broker takes.
    #[error(
        "the answer of {workflow}/{id} has {bytes} bytes, the broker takes {limit}; what is recorded can be read by `history()`, which \
         comes in parts; let a query return less"
    )]
    AnswerTooLarge {
        /// The workflow's name.
        workflow: String,
        /// The instance's id.
        id: String,
        /// Its size.
        bytes: usize,
        /// How many bytes the broker takes in one message.
        limit: usize,
    },
    /// No worker answered in time.
    #[error("no worker of workflow {workflow} answered within {waited:?}; is one running?")]
    NoAnswer {
        /// The workflow's name.
        workflow: String,
        /// How long the client waited.
        waited: Duration,
    },
    /// A worker answered that it cannot.
    #[error("{0}")]
    Refused(String),
    /// The schedule cannot be what it is to be. Nothing was sent.
    #[error("schedule {id}: {problem}")]
    InvalidSchedule {
        /// The schedule's id.
        id: String,
        /// The problem.
        problem: String,
    },
    /// The id cannot be used.
    #[error("{0}")]
    InvalidId(String),
    /// A value could not be encoded, or the answer not be decoded.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

impl ClientError {
    /// Its code, for logs, dashboards and alerts: of an error of the broker, that of its kind.
    /// `docs/reference/errors.md` says what to do about each.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Broker(error) => error.kind().code(),
            Self::AlreadyExists { .. } => "already_exists",
            Self::NotFound { .. } => "no_instance",
            Self::Ended { .. } => "ended",
            Self::AnotherRun { .. } => "another_run",
            Self::TokenRefused { .. } => "token_refused",
            Self::TooLarge { .. } => "too_large",
            Self::AnswerTooLarge { .. } => "answer_too_large",
            Self::NoAnswer { .. } => "no_answer",
            Self::Refused(_) => "refused",
            Self::InvalidSchedule { .. } => "invalid_schedule",
            Self::InvalidId(_) => "invalid_id",
            Self::Payload(_) => "payload",
        }
    }
}

/// How a workflow ended without a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkflowError<E> {
    /// Its code returned this error.
    #[error("{0}")]
    Failed(E),
    /// Its code returned this error, and compensations failed: not all is undone that it had done.
    #[error("{error}; {} of its compensations failed", .compensations.len())]
    Uncompensated {
        /// Its own error.
        error: E,
        /// How its compensations failed, in the order in which they ran.
        compensations: Vec<Failure>,
    },
    /// It was cancelled.
    #[error("cancelled: {reason}")]
    Cancelled {
        /// The reason given with the request.
        reason: String,
        /// The error of its code, if it was asked: why it had failed where it failed before the request came, and how
        /// its [compensations](Failure::compensations) failed.
        failure: Option<Box<Failure>>,
    },
    /// It was ended by an operator or replaced.
    #[error("terminated: {0}")]
    Terminated(String),
    /// Its time was up.
    #[error("timed out: {0}")]
    TimedOut(String),
    /// It has not ended: its code cannot go on for now. It is tried again from time to time, and goes on once it is
    /// repaired.
    #[error("stopped: {reason}")]
    Stopped {
        /// The problem, and what to do about it.
        reason: String,
    },
    /// Its input or its error could not be read, or something else that its code had no part in.
    #[error("{0}")]
    Unknown(String),
    /// The outcome could not be learned; the workflow itself goes on.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl<E> WorkflowError<E> {
    /// Its code, as [`ClientError::code`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failed(_) => "workflow_failed",
            Self::Uncompensated { .. } => "workflow_uncompensated",
            Self::Cancelled { .. } => "workflow_cancelled",
            Self::Terminated(_) => "workflow_terminated",
            Self::TimedOut(_) => "workflow_timed_out",
            Self::Stopped { .. } => "workflow_stopped",
            Self::Unknown(_) => "workflow_unknown",
            Self::Client(error) => error.code(),
        }
    }
}

/// Why an update gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError<E> {
    /// Its validator returned this error. Nothing was recorded, and nothing has changed.
    #[error("{0}")]
    Rejected(E),
    /// Its handler returned this error. The update is recorded.
    #[error("{0}")]
    Failed(E),
    /// Its handler had begun, and the run ended before it did. Its effects stand.
    #[error("run {run} has ended before the handler of the update did")]
    Interrupted {
        /// The run.
        run: String,
    },
    /// It was applied, but its result or its error could not be encoded there, or not be read here.
    #[error("{0}")]
    Unknown(String),
    /// The code of the instance cannot go on for now. An update whose handler had begun before goes on when the code
    /// does; any other has not been applied. Send it again under the same id.
    #[error("stopped: {reason}")]
    Stopped {
        /// The problem, and what to do about it.
        reason: String,
    },
    /// It was not applied, or that could not be learned.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl<E> UpdateError<E> {
    /// Its code, as [`ClientError::code`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "update_rejected",
            Self::Failed(_) => "update_failed",
            Self::Interrupted { .. } => "update_interrupted",
            Self::Unknown(_) => "update_unknown",
            Self::Stopped { .. } => "update_stopped",
            Self::Client(error) => error.code(),
        }
    }
}

impl<E: DeserializeOwned> UpdateError<E> {
    /// From what a handler or a validator gave, whichever `as_error` stands for.
    pub(crate) fn from_failure(failure: Failure, as_error: fn(E) -> Self) -> Self {
        match (failure.kind, failure.details.as_ref().map(Payload::decode)) {
            (FailureKind::Application, Some(Ok(error))) => as_error(error),
            (FailureKind::Application, Some(Err(problem))) => Self::Unknown(format!("{} ({problem})", failure.message)),
            _ => Self::Unknown(failure.to_string()),
        }
    }
}

impl<E: DeserializeOwned> WorkflowError<E> {
    pub(crate) fn from_failure(failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Application => match failure.details.as_ref().unwrap_or(&Payload::null()).decode() {
                Ok(error) if failure.compensations.is_empty() => Self::Failed(error),
                Ok(error) => Self::Uncompensated { error, compensations: failure.compensations },
                Err(problem) => Self::Unknown(format!("{} ({problem})", failure.message)),
            },
            FailureKind::Cancelled => Self::Cancelled { reason: failure.message, failure: failure.cause },
            FailureKind::Terminated => Self::Terminated(failure.message),
            FailureKind::TimedOut => Self::TimedOut(failure.message),
            _ => Self::Unknown(failure.to_string()),
        }
    }
}
