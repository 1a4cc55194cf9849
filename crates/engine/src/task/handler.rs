//! Runs a task: its method, its report, or the arrangement of another attempt.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use partitura_broker::{Delivery, Timestamp};
use partitura_lanes::{Batch, Handler, Outcome};
use partitura_workflow::Payload;

use super::admission::Admitted;
use super::call::Call;
use super::pulse::Answer;
use super::runner::TaskRunner;
use super::running::{Begun, Place};
use crate::messaging::mailbox::Line;
use crate::storage::crashes::NotRun;
use crate::storage::outbox::may_have_come_before;
use crate::wire::{self, TaskRequest};

impl TaskRunner {
    /// Runs a call, unless a copy of it runs here already.
    async fn take(&self, call: Call) -> Outcome {
        let now = self.clock.now();
        if let Some(at) = call.request.begins_at.map(Timestamp::from_millis).filter(|at| *at > now) {
            return self.wait_on(&call, at).await;
        }
        let line = self.mailbox.line();
        match self.0.running.begin(call.request.message_id(), line.address()) {
            Begun::Here(place) => self.hold(Arc::new(call), place, line).await,
            Begun::Before { address, reported } => {
                if self.capabilities.hold.is_some() {
                    return self.send_copy(&call, address).await;
                }
                if reported.await.unwrap_or(false) {
                    return Outcome::Done;
                }
                Outcome::retry_after(Duration::ZERO, "the copy of it that ran here was not reported")
            }
        }
    }

    pub(super) async fn run(&self, call: Arc<Call>, place: Place, mut line: Line) -> Outcome {
        let request = &call.request;
        self.time.learn(&self.broker, request.time_at.as_deref()).await;
        if let Some(holder) = &request.holder
            && self.still_runs(holder).await
        {
            return self.send_copy(&call, holder.clone()).await;
        }
        let Admitted { permit, was_paused } = match self.admit(request, &mut line).await {
            Ok(admitted) => admitted,
            Err(wait) => {
                // It may come back here before this delivery is settled.
                place.end(false);
                return self.put_back(&call, wait).await;
            }
        };
        let mut last = request.heartbeat.clone();
        let mut begun = false;
        let is_late = self.is_late(request);
        if is_late || was_paused || call.is_questionable() {
            match self.ask_if_cancelled(request, &mut line).await {
                Answer::Continue(progress) => {
                    begun = true;
                    last = newer(request, progress).or(last);
                }
                Answer::Cancelled => return self.pass_over(&call),
                // Nobody knows whether it was meant to be sent again, so that the question is put once more.
                // The same where it was not to begin any more.
                Answer::None if is_late || call.redriven().is_some() => return self.ask_again(&call).await,
                // The owner of the instance may have left with this worker. Another worker asks the next one.
                Answer::None if self.shutdown.clone().now_or_never().is_some() => {
                    place.end(false);
                    return self.put_back(&call, Duration::ZERO).await;
                }
                Answer::None => {}
            }
        }
        let attempt = async { tokio::join!(self.measured(&call, last, &mut line, begun), self.started(request)).0 };
        let ended = if call.may_have_begun() {
            match self.crashes.run(call.name(), Box::pin(attempt)).await {
                Ok(ended) => ended,
                Err(not_run) => return self.not_run(&call, place, not_run).await,
            }
        } else {
            attempt.await
        };
        drop(permit);
        // A task that this build does not know is put back, and may come back here before this delivery is settled: it
        // is not a copy of a task that ran here.
        let place = if ended.is_foreign() {
            place.end(false);
            None
        } else {
            Some(place)
        };
        let outcome = tokio::select! {
            biased;
            outcome = self.report(&call, ended) => outcome,
            never = self.answer_askers(&mut line) => match never {},
        };
        if let Some(place) = place {
            place.end(matches!(outcome, Outcome::Done | Outcome::Settled));
        }
        outcome
    }

    /// Reports a task that was not run since processes were lost while it ran; or tries again to note that it begins.
    async fn not_run(&self, call: &Call, place: Place, not_run: NotRun) -> Outcome {
        let outcome = match not_run {
            NotRun::GivenUp(crashes) => self.report_lost(call, crashes).await,
            NotRun::NotNoted(error) => Outcome::retry(error.to_string()),
        };
        let is_reported = matches!(outcome, Outcome::Done | Outcome::Settled);
        if is_reported {
            self.crashes.forget(call.name());
        }
        place.end(is_reported);
        outcome
    }

    /// Whether the time is over within which it was to begin.
    fn is_late(&self, request: &TaskRequest) -> bool {
        let due = |limit| Timestamp::from_millis(request.scheduled_at) + limit;
        request.attempt == 1 && request.options.start_timeout.is_some_and(|limit| due(limit) <= self.clock.now())
    }

    fn pass_over(&self, call: &Call) -> Outcome {
        let request = &call.request;
        let task = request.idempotency_key();
        let instance = format!("{}/{}", request.workflow, request.id);
        if call.redriven().is_some() {
            tracing::warn!(
                task,
                instance,
                "a dead letter was sent again and is not run: its workflow no longer wants it"
            );
        } else {
            let attempt = request.attempt;
            tracing::info!(
                task,
                instance,
                attempt,
                "not run: its workflow does not want it, or it was delegated before"
            );
        }
        Outcome::Done
    }
}

/// Gives the instance's progress of a task, if that is newer than the one that the attempt was sent with.
fn newer(request: &TaskRequest, progress: Option<(u32, Payload)>) -> Option<Payload> {
    let (attempt, details) = progress?;
    (attempt >= request.attempt || request.heartbeat.is_none()).then_some(details)
}

impl Handler for TaskRunner {
    async fn handle(&self, batch: Batch) -> Outcome {
        let [delivery] = batch.deliveries() else { return Outcome::retry("tasks are handled one by one") };
        let Delivery { message, token, .. } = delivery.clone();
        match self.directory.payloads().decode::<TaskRequest>(&message.payload) {
            Ok(request) => {
                // A run here that failed to report leaves the delivery as good as redelivered.
                let redelivered = may_have_come_before(delivery) || batch.attempt() > 1;
                let (request, token) = (Arc::new(request), Mutex::new(Some(token)));
                let (is_let_go, trace) = (AtomicBool::new(false), OnceLock::new());
                self.take(Call { request, message, redelivered, token, is_let_go, trace }).await
            }
            Err(error) => self.undecodable(&message, token, &error.to_string()).await,
        }
    }

    /// Perhaps it is our clock that is wrong.
    fn early(&self, delivery: &Delivery) {
        if !self.time.is_learnt_from_tasks() {
            return;
        }
        let Ok(TaskRequest { time_at, .. }) = wire::decode(&delivery.message.payload) else { return };
        let runner = self.clone();
        tokio::spawn(async move { runner.time.learn(&runner.broker, time_at.as_deref()).await });
    }
}
