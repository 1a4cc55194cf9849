//! One run of a method, within its time-outs.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use partitura_broker::Timestamp;
use partitura_workflow::{Failure, FailureKind, Payload, TaskFailure};
use tokio::sync::watch;

use super::call::Call;
use super::pulse::Pulse;
use super::runner::TaskRunner;
use crate::messaging::mailbox::Line;
use crate::task::context::TaskContext;
use crate::wire::TaskRequest;

/// How an attempt ended.
pub(super) struct Ended {
    pub(super) result: Result<Payload, TaskFailure>,
    /// What its last heartbeat said.
    pub(super) heartbeat: Option<Payload>,
    /// Its workflow no longer wanted it.
    pub(super) cancelled: bool,
}

impl Ended {
    /// Whether this build does not know what was asked for, so that nothing has run.
    pub(super) fn is_foreign(&self) -> bool {
        self.result.as_ref().is_err_and(TaskFailure::is_foreign)
    }
}

impl TaskRunner {
    /// Runs the method once, within its time-outs, and contains its panics. `begun`: its instance knows that it begins.
    pub(super) async fn attempt(&self, call: &Call, last: Option<Payload>, line: &mut Line, begun: bool) -> Ended {
        let request = &call.request;
        let (beat, beats) = watch::channel(None);
        let (cancelled, is_cancelled) = watch::channel(false);
        let context = TaskContext::new(request.clone(), last, beat, is_cancelled.clone(), self.shutdown.clone());
        let method = AssertUnwindSafe(self.service.call(&request.method, request.args.clone())).catch_unwind();
        let method = context.scope(method);
        let timed_out = |what: &str, limit: Duration| {
            TaskFailure::from(Failure::new(FailureKind::TimedOut, format!("{what} within {limit:?}")))
        };
        let pulse = Pulse::new(self, request, beats.clone(), cancelled, line, begun);
        let result = tokio::select! {
            biased;
            result = method => result.unwrap_or_else(|panic| Err(Failure::panic(&*panic).into())),
            limit = deadline(request.options.timeout) => Err(timed_out("no result", limit)),
            limit = self.overdue(request) => Err(timed_out("no result of all attempts", limit)),
            limit = pulse.until_silent() => {
                let message = format!("no heartbeat within {limit:?}");
                Err(Failure::new(FailureKind::WorkerLost, message).into())
            }
        };
        let heartbeat = beats.borrow().clone();
        let cancelled = *is_cancelled.borrow();
        Ended { result, heartbeat, cancelled }
    }

    async fn overdue(&self, request: &TaskRequest) -> Duration {
        let Some(limit) = request.options.overall_timeout else { return std::future::pending().await };
        let due = Timestamp::from_millis(request.scheduled_at) + limit;
        tokio::time::sleep(due.since(self.clock.now())).await;
        limit
    }
}

async fn deadline(limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else { return std::future::pending().await };
    tokio::time::sleep(limit).await;
    limit
}
