//! When a task that failed is tried again.

use partitura_broker::Timestamp;
use partitura_workflow::{FailureKind, TaskFailure};

use crate::wire::TaskRequest;

/// When the next attempt is to begin, if there is to be one. `random` is a number from 0 up to 1 that the caller draws.
pub(crate) fn next_attempt(
    request: &TaskRequest,
    failure: &TaskFailure,
    random: f64,
    now: Timestamp,
) -> Option<Timestamp> {
    let at = now + request.options.retry_after(failure, request.attempt, random)?;
    let overall = request.options.overall_timeout.map(|limit| Timestamp::from_millis(request.scheduled_at) + limit);
    overall.is_none_or(|end| at < end).then_some(at)
}

/// Whether it failed after all attempts, rather than by an answer that no attempt would change.
pub(super) fn is_exhausted(request: &TaskRequest, failure: &TaskFailure) -> bool {
    let transient =
        matches!(failure.failure.kind, FailureKind::Panic | FailureKind::TimedOut | FailureKind::WorkerLost);
    transient || (request.attempt > 1 && failure.retryable != Some(false))
}
