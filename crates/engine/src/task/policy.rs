//! When a task that failed is tried again.

use std::time::Duration;

use partitura_broker::Timestamp;
use partitura_workflow::{FailureKind, OwnErrors, TaskFailure, TaskOptions};

use crate::wire::TaskRequest;

/// When the next attempt is to begin, if there is to be one. A method that has `asked` for a wait asks for the attempt,
/// too. `random` is a number from 0 up to 1 that the caller draws.
pub(crate) fn next_attempt(
    request: &TaskRequest,
    failure: &TaskFailure,
    asked: Option<Duration>,
    random: f64,
    now: Timestamp,
) -> Option<Timestamp> {
    let own_errors = asked.map(|_| OwnErrors::Retried).or(request.options.own_errors);
    let options = TaskOptions { own_errors, ..request.options.clone() };
    let wait = options.retry_after(failure, request.attempt, random)?;
    let at = now + wait.max(asked.unwrap_or_default());
    let overall = request.options.overall_timeout.map(|limit| Timestamp::from_millis(request.scheduled_at) + limit);
    overall.is_none_or(|end| at < end).then_some(at)
}

/// Whether it failed after all attempts, rather than by an answer that no attempt would change.
pub(super) fn is_exhausted(request: &TaskRequest, failure: &TaskFailure) -> bool {
    let transient =
        matches!(failure.failure.kind, FailureKind::Panic | FailureKind::TimedOut | FailureKind::WorkerLost);
    transient || (request.attempt > 1 && failure.retryable != Some(false))
}
