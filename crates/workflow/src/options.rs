use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration::{hours, optional_millis_serde};
use crate::{FailureKind, Retry, TaskFailure};

/// How long the method of a task may run for which no time-out is stated.
pub const DEFAULT_TIMEOUT: Duration = hours(1);

/// How a task is to be run. Everything that is `None` is left to the worker's defaults.
///
/// `retry` says *when* it is tried again, [`Retry::default`] where none is stated. *What* is tried again:
/// * panics, time-outs and lost workers;
/// * an error that the service itself returned is its answer and final, unless the service or the caller asks for more:
///   the method's `retry_if`, else the error type by [`Transient`](crate::Transient), says which errors are worth
///   another attempt; a method or a call with [`retry_errors`](crate::Task::retry_errors) has all of them tried again;
///   and a method may ask for the next attempt with `TaskContext::retry_after`;
/// * tasks that no worker took in time, cancelled ones, and payloads or methods that the worker does not know: never.
///
/// [`TaskOptions::retry_after`] is this rule as code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskOptions {
    /// The policy stated for the method or the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How long one attempt may take.
    #[serde(rename = "timeout_ms", default, skip_serializing_if = "Option::is_none", with = "optional_millis_serde")]
    pub timeout: Option<Duration>,
    /// How long all attempts may take together, waits included, counted from when the task was scheduled.
    #[serde(
        rename = "overall_timeout_ms",
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_millis_serde"
    )]
    pub overall_timeout: Option<Duration>,
    /// How long the task may wait until a worker begins with it, counted from when the task was scheduled.
    #[serde(
        rename = "start_timeout_ms",
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_millis_serde"
    )]
    pub start_timeout: Option<Duration>,
    /// How long an attempt may go without a heartbeat before its worker counts as lost.
    #[serde(
        rename = "heartbeat_timeout_ms",
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_millis_serde"
    )]
    pub heartbeat_timeout: Option<Duration>,
    /// How long the method may run, where no time-out was stated: [`DEFAULT_TIMEOUT`], which
    /// [`complete`](Self::complete) sets. Unlike `timeout` it does not limit how long others take to complete a
    /// delegated task. Tasks that were scheduled before there was a default have none.
    #[serde(
        rename = "default_timeout_ms",
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_millis_serde"
    )]
    pub default_timeout: Option<Duration>,
    /// No time-out, not even the default one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_timeout: bool,
    /// The treatment of the service's own errors about which nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_errors: Option<OwnErrors>,
}

/// The treatment of errors that a service itself returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnErrors {
    /// They are answers, and final. A task that was scheduled before this could be said has `None` instead, and its
    /// errors are retried if a policy was stated.
    Final,
    /// They are tried again.
    Retried,
}

impl TaskOptions {
    /// Whether nothing was stated.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The options of a task that is scheduled now: what was stated, and the defaults of today, so that the task keeps
    /// them.
    #[must_use]
    pub fn complete(mut self) -> Self {
        if self.retry.is_some() {
            self.own_errors.get_or_insert(OwnErrors::Final);
        }
        let stated = [self.timeout, self.overall_timeout, self.heartbeat_timeout].iter().any(Option::is_some);
        self.default_timeout = (!stated && !self.no_timeout).then_some(DEFAULT_TIMEOUT);
        self
    }

    /// How long the method may run in one attempt.
    pub fn run_timeout(&self) -> Option<Duration> {
        self.timeout.or(self.default_timeout)
    }

    /// After how long to run the task again when `attempt` (the first is 1) failed like this; `None` when the failure
    /// is final.
    ///
    /// `random` is a number from 0 up to 1 that the caller draws.
    pub fn retry_after(&self, failure: &TaskFailure, attempt: u32, random: f64) -> Option<Duration> {
        let again = match failure.failure.kind {
            FailureKind::Panic | FailureKind::TimedOut | FailureKind::WorkerLost => failure.retryable.unwrap_or(true),
            FailureKind::Application => failure.retryable.unwrap_or_else(|| self.retries_errors()),
            FailureKind::Cancelled | FailureKind::Terminated | FailureKind::NotStarted | FailureKind::Unknown => false,
        };
        if again { self.retry.unwrap_or_default().delay(attempt, random) } else { None }
    }

    /// Whether errors of the service are retried of which neither a predicate nor their type says anything.
    fn retries_errors(&self) -> bool {
        self.own_errors.map_or(self.retry.is_some(), |own| own == OwnErrors::Retried)
    }
}
