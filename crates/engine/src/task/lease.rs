//! Tasks that run for longer than the broker lets a delivery be held.
//!
//! Well before that ends, a copy of the request is published, to be delivered a little later, and the delivery is
//! settled; the method runs on. A worker that gets the copy asks the process that sent the first one whether the
//! attempt still runs there. It does: the copy is sent on, and comes again a little later. There is no answer: the
//! process is gone, and the copy runs.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use partitura_broker::{ErrorKind, Message, Timestamp};
use partitura_lanes::Outcome;
use tokio::time::{sleep, timeout};

use super::call::Call;
use super::pulse::ASK;
use super::runner::TaskRunner;
use super::running::Place;
use crate::messaging::mailbox::Line;
use crate::wire::{ReplyTo, TaskRequest};

/// After how long a copy comes: how late at most it is noticed that a process is gone.
const LEASE: Duration = Duration::from_secs(60);
/// The pause before the copy is sent again that the broker did not take.
const PAUSE: Duration = Duration::from_secs(1);

impl TaskRunner {
    /// Runs a call in its turn. Beyond a third of the time for which the broker lets its delivery be held, it goes on
    /// without.
    pub(super) async fn hold(&self, call: Arc<Call>, place: Place, line: Line) -> Outcome {
        let Some(limit) = self.capabilities.hold.map(|hold| hold / 3) else { return self.run(call, place, line).await };
        let address = line.address().clone();
        // Those that hold no delivery any more take up places, too.
        let Ok(Ok(permit)) = timeout(limit, self.0.places.clone().acquire_owned()).await else {
            return self.ask_again(&call).await;
        };
        let mut run = {
            let (runner, call) = (self.clone(), call.clone());
            Box::pin(async move {
                let _permit = permit;
                runner.run(call, place, line).await
            })
        };
        tokio::select! {
            biased;
            outcome = &mut run => outcome,
            outcome = self.let_go(&call, limit, address) => {
                call.is_let_go.store(true, Ordering::Relaxed);
                self.detach(call, run);
                outcome
            }
        }
    }

    /// Sends a copy of the call in its place, when `limit` has passed.
    async fn let_go(&self, call: &Call, limit: Duration, holder: ReplyTo) -> Outcome {
        sleep(limit).await;
        loop {
            // The attempt is over, and its report on its way.
            let Some(token) = call.take_token() else { return std::future::pending().await };
            match self.commit(Some(token), vec![self.copy(call, holder.clone())]).await {
                Ok(outcome) => return outcome,
                // It was delivered to another already, who takes its time or asks.
                Err(error) if error.kind() == ErrorKind::Fenced => return Outcome::Lost,
                Err(error) => {
                    let task = call.request.idempotency_key();
                    tracing::warn!(task, "sending a copy of a long task again: {error}");
                    call.put_token(token);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Lets an attempt run on whose delivery is settled.
    fn detach(&self, call: Arc<Call>, run: impl Future<Output = Outcome> + Send + 'static) {
        let mut detached = self.0.detached.lock().unwrap_or_else(PoisonError::into_inner);
        while detached.try_join_next().is_some() {}
        detached.spawn(async move {
            let outcome = run.await;
            if !matches!(outcome, Outcome::Done | Outcome::Settled) {
                let (task, attempt) = (call.request.idempotency_key(), call.request.attempt);
                tracing::warn!(task, attempt, ?outcome, "a long task was not reported; a copy of it runs");
            }
        });
    }

    /// Waits until no attempt runs that holds no delivery.
    pub(crate) async fn idle(&self) {
        let take = || std::mem::take(&mut *self.0.detached.lock().unwrap_or_else(PoisonError::into_inner));
        loop {
            let mut running = take();
            if running.is_empty() {
                return;
            }
            while running.join_next().await.is_some() {}
        }
    }

    /// Drops what runs and holds no delivery, when it is dropped itself.
    pub(crate) fn until_dropped(&self) -> impl Drop + Send + 'static {
        struct Abort(Arc<std::sync::Mutex<tokio::task::JoinSet<()>>>);
        impl Drop for Abort {
            fn drop(&mut self) {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
            }
        }
        Abort(self.0.detached.clone())
    }

    /// Sends the call on as a copy of an attempt that runs at `holder`.
    pub(super) async fn send_copy(&self, call: &Call, holder: ReplyTo) -> Outcome {
        self.replace(call, self.copy(call, holder)).await
    }

    /// Puts the call back, to come again after a moment.
    pub(super) async fn ask_again(&self, call: &Call) -> Outcome {
        self.put_back(call, ASK).await
    }

    /// Sends the call on towards the moment at which it begins, which is later than the broker can delay.
    pub(super) async fn wait_on(&self, call: &Call, at: Timestamp) -> Outcome {
        let horizon = self.directory.horizon(self.clock.now());
        let begins_at = (at > horizon).then_some(at.as_millis());
        let request = TaskRequest { copies: call.request.copies + 1, begins_at, ..(*call.request).clone() };
        self.replace(call, self.later(call, &request, at.min(horizon))).await
    }

    fn copy(&self, call: &Call, holder: ReplyTo) -> Message {
        let copies = call.request.copies + 1;
        let request = TaskRequest { holder: Some(holder), copies, ..(*call.request).clone() };
        let lease = self.capabilities.hold.map_or(LEASE, |hold| LEASE.min(hold / 3));
        self.later(call, &request, self.clock.now_rounded_up() + lease)
    }

    pub(super) fn later(&self, call: &Call, request: &TaskRequest, at: Timestamp) -> Message {
        let mut message = call.message.clone();
        message.id = format!("{}.c{}", request.message_id(), request.copies).into();
        message.payload = self.directory.payloads().encode(request);
        message.not_before(at)
    }
}
