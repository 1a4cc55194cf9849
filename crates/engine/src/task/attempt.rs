//! One run of a method, within its time-outs.

use std::sync::Arc;
use std::time::Duration;

use partitura_broker::Timestamp;
use partitura_workflow::{Failure, FailureKind, Payload, TaskFailure};
use tokio::sync::watch;
use tracing::Instrument;

use super::call::Call;
use super::pulse::Pulse;
use super::runner::TaskRunner;
use super::stuck::Method;
use crate::code;
use crate::messaging::mailbox::Line;
use crate::task::context::{HandedOver, TaskContext};
use crate::telemetry::metrics::{self, Stopwatch};
use crate::telemetry::spans;
use crate::wire::TaskRequest;

/// How an attempt ended.
pub(super) struct Ended {
    pub(super) ending: Ending,
    /// Others may have its token.
    pub(super) is_token_out: bool,
    /// The details of its last heartbeat.
    pub(super) heartbeat: Option<Payload>,
    /// Its workflow no longer wanted it.
    pub(super) cancelled: bool,
    /// For how long the next attempt is to wait at least, if the method has said so.
    pub(super) retry_after: Option<Duration>,
}

/// The end of an attempt.
pub(super) enum Ending {
    Result(Result<Payload, TaskFailure>),
    /// The result comes from outside, until its time-out at this moment.
    Delegated(Option<Timestamp>),
}

impl Ended {
    /// How it ended, in a word of a short list.
    pub(super) fn word(&self) -> &'static str {
        match &self.ending {
            _ if self.cancelled => "cancelled",
            Ending::Delegated(_) => "delegated",
            Ending::Result(Ok(_)) => "completed",
            Ending::Result(Err(failure)) => match failure.failure.kind {
                FailureKind::TimedOut => "timed_out",
                FailureKind::Panic => "panicked",
                FailureKind::Unknown => "unknown",
                _ => "failed",
            },
        }
    }

    /// Whether this build does not know what was asked for, so that nothing has run.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(&self.ending, Ending::Result(Err(failure)) if failure.is_foreign())
    }
}

impl TaskRunner {
    /// As [`attempt`](Self::attempt), in a span of its own, and measured.
    pub(super) async fn measured(&self, call: &Call, last: Option<Payload>, line: &mut Line, begun: bool) -> Ended {
        let request = &call.request;
        let (named, topic) = ((&*request.service, &*request.method), self.topics.tasks.as_str());
        let could = match call.message.not_before {
            Some(moment) => moment,
            None => Timestamp::from_millis(request.scheduled_at),
        };
        let span = spans::task(topic, named, request.attempt, call.message.id.as_str());
        self.propagation.place(&span, request.trace.as_ref(), None);
        if let Some(context) = self.propagation.context_of(&span) {
            call.trace.get_or_init(|| context);
        }
        let (waited, watch) = (self.clock.now().since(could), Stopwatch::start());
        let ended = self.attempt(call, last, line, begun).instrument(span.clone()).await;
        // A method that this build does not know may be a name of another's choice.
        if !ended.is_foreign() {
            metrics::task_begins(named, waited);
            metrics::task_ran(named, ended.word(), watch);
        }
        if matches!(ended.ending, Ending::Result(Err(_))) {
            spans::failed(&span, ended.word());
        }
        ended
    }

    /// Runs the method once, within its time-outs, and contains its panics. `begun`: its instance knows that it begins.
    pub(super) async fn attempt(&self, call: &Call, last: Option<Payload>, line: &mut Line, begun: bool) -> Ended {
        let request = &call.request;
        let (beat, beats) = watch::channel(None);
        let (cancelled, is_cancelled) = watch::channel(false);
        let (shutdown, directory) = (self.shutdown.clone(), self.directory.clone());
        let context = TaskContext::new(request.clone(), last, beat, is_cancelled.clone(), shutdown, directory);
        let mut handed_over = context.handed_over();
        let asked = context.clone();
        let watched = Arc::new(Method::new(self, request, line.address()));
        let method = code::beside(watched, self.call_method(request, context));
        let due = request.options.timeout.map(|limit| self.clock.now_rounded_up() + limit);
        let timed_out = |what: &str, limit: Duration| {
            TaskFailure::from(Failure::new(FailureKind::TimedOut, format!("{what} within {limit:?}")))
        };
        let pulse = Pulse::new(self, request, beats.clone(), cancelled, line, begun);
        let ending = tokio::select! {
            biased;
            result = method => Ending::Result(result),
            () = until_delegated(&mut handed_over) => Ending::Delegated(due),
            limit = deadline(request.options.run_timeout()) => Ending::Result(Err(timed_out("no result", limit))),
            limit = self.overdue(request) => Ending::Result(Err(timed_out("no result of all attempts", limit))),
            limit = pulse.until_silent() => {
                let message = format!("no heartbeat within {limit:?}");
                Ending::Result(Err(Failure::new(FailureKind::WorkerLost, message).into()))
            }
        };
        let heartbeat = beats.borrow().clone();
        let cancelled = *is_cancelled.borrow();
        let is_token_out = *handed_over.borrow() > HandedOver::Nothing;
        Ended { ending, is_token_out, heartbeat, cancelled, retry_after: asked.asked_wait() }
    }

    async fn overdue(&self, request: &TaskRequest) -> Duration {
        let Some(limit) = request.options.overall_timeout else { return std::future::pending().await };
        let due = Timestamp::from_millis(request.scheduled_at) + limit;
        tokio::time::sleep(due.since(self.clock.now())).await;
        limit
    }
}

async fn until_delegated(handed_over: &mut watch::Receiver<HandedOver>) {
    if handed_over.wait_for(|handed_over| *handed_over == HandedOver::All).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn deadline(limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else { return std::future::pending().await };
    tokio::time::sleep(limit).await;
    limit
}
