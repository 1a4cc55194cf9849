//! The handler of a service's tasks: runs a method, reports its result, or arranges for another attempt.
//!
//! ```text
//! delivery ─► does it run here already? ─► is it still wanted? ─► method ─► report ─► settled
//!                                          (later attempts)        │  ▲
//!                                                      heartbeats, │  │ "not wanted any more"
//!                                                      every 30 s  ▼  │
//!                                                            the instance's owner
//! ```
//!
//! * A method that has returned is not called again: its [report] is sent until it is taken.
//! * A method that runs longer than the broker lets a delivery be held runs on: see [lease].

mod attempt;
mod elsewhere;
mod lease;
pub(crate) mod letter;
pub(crate) mod policy;
mod pulse;
mod report;
mod running;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{AckToken, Broker, Capabilities, Clock, Delivery, Message, Producer, Timestamp};
use partitura_lanes::{Batch, Handler, Outcome, headers};
use partitura_workflow::{Payload, Service};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::pulse::Answer;
use self::running::{Begun, Place, Running};
use crate::directory::Directory;
use crate::events::EventTopic;
use crate::ids::Ids;
use crate::journal::Journal;
use crate::mailbox::{Line, Mailbox};
use crate::names::ServiceTopics;
use crate::timekeeper::Timekeeper;
use crate::wire::{self, TaskRequest};
use crate::worker::Shutdown;

/// Runs the tasks of one service.
#[derive(Clone)]
pub(crate) struct TaskRunner(Arc<Inner>);

/// What it takes to run tasks.
pub(crate) struct Parts {
    pub(crate) service: Box<dyn Service>,
    pub(crate) topics: ServiceTopics,
    pub(crate) journal: Journal,
    pub(crate) producer: Box<dyn Producer>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) time: Arc<Timekeeper>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) events: EventTopic,
    pub(crate) capabilities: Capabilities,
    /// Which build of the program this is.
    pub(crate) build: Arc<str>,
    /// For how long another process is looked for that knows what this one does not.
    pub(crate) elsewhere: Duration,
    /// How many tasks run at a time.
    pub(crate) concurrency: usize,
    pub(crate) shutdown: Shutdown,
}

struct Inner {
    parts: Parts,
    running: Running,
    /// Bounds the tasks that run, whether their deliveries are held or not.
    places: Arc<Semaphore>,
    /// Tasks whose deliveries were settled before they ended.
    detached: Arc<Mutex<JoinSet<()>>>,
}

impl std::ops::Deref for TaskRunner {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

/// One attempt of a task, as it was delivered.
struct Call {
    request: Arc<TaskRequest>,
    message: Message,
    redelivered: bool,
    /// How to settle it, until that is done or being done.
    token: Mutex<Option<AckToken>>,
}

impl Call {
    fn redriven(&self) -> Option<&Bytes> {
        self.message.headers.get(headers::REDRIVEN)
    }

    /// Whether it may have been run before, or somebody may have lost interest since it was sent.
    fn is_questionable(&self) -> bool {
        let sent_before = self.request.attempt > 1 || self.request.copies > 0;
        self.redelivered || sent_before || self.redriven().is_some() || elsewhere::was_tried(&self.message)
    }

    fn take_token(&self) -> Option<AckToken> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_token(&self, token: AckToken) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }
}

impl TaskRunner {
    pub(crate) fn new(parts: Parts) -> Self {
        let places = Arc::new(Semaphore::new(parts.concurrency));
        Self(Arc::new(Inner { parts, running: Running::default(), places, detached: Arc::default() }))
    }

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

    async fn run(&self, call: Arc<Call>, place: Place, mut line: Line) -> Outcome {
        let request = &call.request;
        self.time.learn(&self.broker, request.time_at.as_deref()).await;
        if let Some(holder) = &request.holder
            && self.still_runs(holder).await
        {
            return self.send_copy(&call, holder.clone()).await;
        }
        let mut last = request.heartbeat.clone();
        let mut begun = false;
        let is_late = self.is_late(request);
        if is_late || call.is_questionable() {
            match self.is_wanted(request, &mut line).await {
                Answer::Wanted(progress) => {
                    begun = true;
                    last = newer(request, progress).or(last);
                }
                Answer::Unwanted => return self.pass_over(&call),
                // Nobody knows whether it was meant to be sent again, so that the question is put once more.
                // The same where it was not to begin any more.
                Answer::None if is_late || call.redriven().is_some() => return self.ask_again(&call).await,
                Answer::None => {}
            }
        }
        let (ended, ()) = tokio::join!(self.attempt(&call, last, &mut line, begun), self.started(request));
        // A task that this build does not know is put back, and may come back here before this delivery is settled: it is
        // not a copy of a task that ran here.
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
            tracing::info!(task, instance, attempt = request.attempt, "not run: its workflow no longer wants it");
        }
        Outcome::Done
    }
}

/// What the instance knows of the progress of a task, if that is newer than what the attempt was sent with.
fn newer(request: &TaskRequest, progress: Option<(u32, Payload)>) -> Option<Payload> {
    let (attempt, details) = progress?;
    (attempt >= request.attempt || request.heartbeat.is_none()).then_some(details)
}

impl Handler for TaskRunner {
    async fn handle(&self, batch: Batch) -> Outcome {
        let [delivery] = batch.deliveries() else { return Outcome::retry("tasks are handled one by one") };
        let Delivery { message, redelivered, token, .. } = delivery.clone();
        match wire::decode::<TaskRequest>(&message.payload) {
            Ok(request) => {
                // A run here that failed to report leaves the delivery as good as redelivered.
                let redelivered = redelivered || batch.attempt() > 1;
                let (request, token) = (Arc::new(request), Mutex::new(Some(token)));
                self.take(Call { request, message, redelivered, token }).await
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
