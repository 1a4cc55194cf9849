use std::any::Any;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Payload;

/// How something failed, as it is kept in a history and sent between processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The origin of the failure.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
    /// For programs: the application's own error value when the kind is [`FailureKind::Application`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Payload>,
    /// Of a workflow: how the compensations failed that were to undo what it had done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compensations: Vec<Failure>,
    /// Of a workflow that was cancelled: what its code returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Failure>>,
}

impl Failure {
    /// A failure without details.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), details: None, compensations: Vec::new(), cause: None }
    }

    /// An application's own error, which the other side gets back typed.
    pub fn application<E: Serialize + DeserializeOwned>(error: &E, message: impl Into<String>) -> Self {
        match Payload::encode(error) {
            Ok(details) => Self { details: Some(details), ..Self::new(FailureKind::Application, message) },
            Err(problem) => Self::new(FailureKind::Unknown, format!("{} ({problem})", message.into())),
        }
    }

    /// Makes a failure of a caught panic.
    pub fn panic(panic: &(dyn Any + Send)) -> Self {
        Self::new(FailureKind::Panic, panic_message(panic))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FailureKind::Application => f.write_str(&self.message)?,
            kind => write!(f, "{kind}: {}", self.message)?,
        }
        if let Some(cause) = &self.cause {
            write!(f, "; its code returned: {cause}")?;
        }
        self.compensations.iter().try_for_each(|failed| write!(f, "; a compensation failed: {failed}"))
    }
}

impl std::error::Error for Failure {}

/// The origin of a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureKind {
    /// The application answered with an error of its own; [`Failure::details`] holds it.
    Application,
    /// The application's code panicked.
    Panic,
    /// No answer within the time-out.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// It was ended by an operator, without running any more of its code.
    Terminated,
    /// The worker that ran it went silent (crashed, lost its connection, missed its heartbeats).
    WorkerLost,
    /// No worker took it within the time-out for its start.
    NotStarted,
    /// The worker does not know the service, method or workflow, or could not read the payload.
    Unknown,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Application => "application error",
            Self::Panic => "panicked",
            Self::TimedOut => "timed out",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
            Self::WorkerLost => "worker lost",
            Self::NotStarted => "not started",
            Self::Unknown => "unknown",
        })
    }
}

/// The error type of what has no error of its own: a service method that returns `T` instead of `Result<T, E>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Never {}

/// An error type that says which of its values are worth another attempt. The worker asks it when a method returns such
/// an error and has no `retry_if` of its own; without either, a service's errors are answers and final.
///
/// ```
/// # use serde::{Serialize, Deserialize};
/// use partitura_workflow::Transient;
///
/// #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
/// enum PaymentError {
///     #[error("the card was declined")]
///     Declined,
///     #[error("the bank is busy")]
///     Busy,
/// }
///
/// impl Transient for PaymentError {
///     fn is_transient(&self) -> bool {
///         matches!(self, Self::Busy)
///     }
/// }
/// # assert!(PaymentError::Busy.is_transient() && !PaymentError::Declined.is_transient());
/// ```
pub trait Transient {
    /// Whether the same call may succeed a little later.
    fn is_transient(&self) -> bool;
}

/// The text of a panic, as far as it had one.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

/// How an attempt of a task failed, and what the method's own predicate says about another attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    /// The failure to report when there is no other attempt.
    pub failure: Failure,
    /// The judgement of `retry_if`, or of the error's type by [`Transient`], about the error; `None` without either.
    /// [`TaskOptions::retry_after`](crate::TaskOptions::retry_after) takes it into account. Of a failure of the kind
    /// [`FailureKind::Unknown`], `Some(true)`: the method was not called.
    pub retryable: Option<bool>,
}

impl TaskFailure {
    /// This program knows no such method, or cannot read its arguments. The method was not called, and a process that
    /// runs another version of the program may be able to.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self { failure: Failure::new(FailureKind::Unknown, message), retryable: Some(true) }
    }

    /// The method was called, and what it returned cannot be encoded.
    pub fn unencodable(message: impl Into<String>) -> Self {
        Failure::new(FailureKind::Unknown, message).into()
    }

    /// Whether the method was not called, and another version of the program may be able to.
    pub fn is_foreign(&self) -> bool {
        self.failure.kind == FailureKind::Unknown && self.retryable == Some(true)
    }
}

impl From<Failure> for TaskFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, retryable: None }
    }
}
