use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration::optional_millis_serde;
use crate::{FailureKind, Retry, TaskFailure};

/// How a task is to be run. Everything that is `None` is left to the worker's defaults.
///
/// What is retried:
/// * panics, time-outs and lost workers: by `retry`, or by [`Retry::default`] when none is stated;
/// * an error that the service itself returned is its answer and final, unless `retry` was stated for the method or the call; then
///   the method's `retry_if` predicate, where there is one, says which errors are worth another attempt. A method may ask for an
///   attempt, too, with `TaskContext::retry_after`;
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
}

impl TaskOptions {
    /// Whether nothing was stated.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// After how long to run the task again when `attempt` (the first is 1) failed like this; `None` when the failure is final.
    ///
    /// `random` is a number from 0 up to 1 that the caller draws.
    pub fn retry_after(&self, failure: &TaskFailure, attempt: u32, random: f64) -> Option<Duration> {
        let policy = match failure.failure.kind {
            FailureKind::Panic | FailureKind::TimedOut | FailureKind::WorkerLost => self.retry.unwrap_or_default(),
            FailureKind::Application => self.retry?,
            FailureKind::Cancelled | FailureKind::Terminated | FailureKind::NotStarted | FailureKind::Unknown => {
                return None;
            }
        };
        if failure.retryable == Some(false) {
            return None;
        }
        policy.delay(attempt, random)
    }
}
