//! The handler of a service's tasks: runs a method, reports its result, or arranges for another attempt.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use partitura_broker::{AckToken, Broker, Clock, Delivery, ErrorKind, Message, Producer, Timestamp, Unit};
use partitura_lanes::{Batch, Handler, Outcome, headers};
use partitura_workflow::{Failure, FailureKind, Payload, Service, TaskFailure};
use tokio::sync::watch;

use crate::context::TaskContext;
use crate::directory::Directory;
use crate::events::{EventTopic, TaskEvent, of_task};
use crate::ids::{Ids, random};
use crate::journal::{Journal, Settlement, is_unsendable};
use crate::mailbox::Mailbox;
use crate::names::ServiceTopics;
use crate::timekeeper::Timekeeper;
use crate::wire::{self, Command, Outcome as Reported, ReplyBody, TaskRequest};

/// How long an attempt that was delivered before asks the workflow for its last heartbeat.
const ASK: Duration = Duration::from_secs(5);
/// Heartbeats are sent at most this often, unless the time-out asks for more.
const BEAT: Duration = Duration::from_secs(1);

/// Runs the tasks of one service.
#[derive(Clone)]
pub(crate) struct TaskRunner(Arc<Parts>);

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
}

impl TaskRunner {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    async fn run(&self, request: Arc<TaskRequest>, delivered_before: bool, token: AckToken) -> Outcome {
        self.0.time.learn(&self.0.broker, request.time_at.as_deref()).await;
        let last = match (&request.heartbeat, delivered_before) {
            (Some(details), _) => Some(details.clone()),
            // The worker that had it went away; what it said last is with the workflow.
            (None, true) if request.options.heartbeat_timeout.is_some() => self.ask(&request).await,
            (None, _) => None,
        };
        let (beat, beats) = watch::channel(None);
        let (result, ()) = tokio::join!(self.attempt(&request, last, beat), self.started(&request));
        let now = self.0.clock.now();
        let mut unit = Unit { settle: vec![token], ..Unit::default() };
        let reported = match result {
            Ok(result) => self.completed(&request, result, now, &mut unit),
            Err(failure) => self.failed(&request, failure, beats.borrow().clone(), now, &mut unit),
        };
        if let Err(error) = reported {
            return Outcome::dead(error.to_string());
        }
        match self.commit(unit).await {
            Err(error) if is_unsendable(&error) => self.unsendable(&request, &error, token).await,
            outcome => outcome.unwrap_or_else(|error| Outcome::retry(error.to_string())),
        }
    }

    async fn commit(&self, unit: Unit) -> partitura_broker::Result<Outcome> {
        match self.0.journal.report(unit).await {
            Ok(Settlement::Done) => Ok(Outcome::Settled),
            Ok(Settlement::Due) => Ok(Outcome::Done),
            Err(error) if error.kind() == ErrorKind::Fenced => Ok(Outcome::Lost),
            Err(error) => Err(error),
        }
    }

    /// The broker refuses the report, and would each time: the workflow is told that instead.
    async fn unsendable(&self, request: &TaskRequest, error: &partitura_broker::Error, token: AckToken) -> Outcome {
        let message = format!("the task ended, but the broker refuses what it returned: {error}");
        let failed = Reported::Err(Failure::new(FailureKind::Unknown, message));
        match self.done(request, failed) {
            Ok(done) => {
                let unit = Unit { settle: vec![token], publish: vec![done], ..Unit::default() };
                self.commit(unit).await.unwrap_or_else(|error| Outcome::retry(error.to_string()))
            }
            Err(error) => Outcome::dead(error.to_string()),
        }
    }

    /// Runs the method once, within its time-outs, and contains its panics.
    async fn attempt(
        &self,
        request: &Arc<TaskRequest>,
        last: Option<Payload>,
        beat: watch::Sender<Option<Payload>>,
    ) -> Result<Payload, TaskFailure> {
        let (wanted, is_wanted) = watch::channel(true);
        let beats = beat.subscribe();
        let context = TaskContext::new(request.clone(), last, beat, is_wanted);
        let call = AssertUnwindSafe(self.0.service.call(&request.method, request.args.clone())).catch_unwind();
        let call = context.scope(call);
        let timed_out = |what: &str, limit: Duration| {
            TaskFailure::from(Failure::new(FailureKind::TimedOut, format!("{what} within {limit:?}")))
        };
        tokio::select! {
            biased;
            result = call => result.unwrap_or_else(|panic| Err(Failure::panic(&*panic).into())),
            limit = deadline(request.options.timeout) => Err(timed_out("no result", limit)),
            limit = self.overdue(request) => Err(timed_out("no result of all attempts", limit)),
            limit = self.heartbeats(request, beats, wanted) => {
                let message = format!("no heartbeat within {limit:?}");
                Err(Failure::new(FailureKind::WorkerLost, message).into())
            }
        }
    }

    async fn overdue(&self, request: &TaskRequest) -> Duration {
        let Some(limit) = request.options.overall_timeout else { return std::future::pending().await };
        let due = Timestamp::from_millis(request.scheduled_at) + limit;
        tokio::time::sleep(due.since(self.0.clock.now())).await;
        limit
    }

    /// Sends what the method says of its progress, and ends when it is silent for too long.
    async fn heartbeats(
        &self,
        request: &TaskRequest,
        mut beats: watch::Receiver<Option<Payload>>,
        wanted: watch::Sender<bool>,
    ) -> Duration {
        let limit = request.options.heartbeat_timeout;
        let third = limit.map_or(ASK, |limit| limit / 3);
        // A workflow that is slow to answer is not asked again at once: beats would only queue up before it.
        let (interval, patience) = (BEAT.min(third), ASK.min(third));
        loop {
            let silent = async {
                match limit {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = beats.changed() => if changed.is_err() { return std::future::pending().await },
                () = silent => return limit.unwrap_or_default(),
            }
            let details = beats.borrow_and_update().clone();
            if let Some(ReplyBody::Heartbeat { wanted: false, .. }) = self.beat(request, details, true, patience).await
            {
                wanted.send_replace(false);
            }
            tokio::time::sleep(interval).await;
        }
    }

    async fn ask(&self, request: &TaskRequest) -> Option<Payload> {
        match self.beat(request, None, false, ASK).await {
            Some(ReplyBody::Heartbeat { details, .. }) => details,
            _ => None,
        }
    }

    async fn beat(
        &self,
        request: &TaskRequest,
        details: Option<Payload>,
        alive: bool,
        patience: Duration,
    ) -> Option<ReplyBody> {
        let (reply_to, reply) = self.0.mailbox.request();
        let TaskRequest { run, seq, attempt, workflow, id, .. } = request;
        let beat = Command::Heartbeat { run: run.clone(), seq: *seq, attempt: *attempt, details, alive, reply_to };
        let topic = self.0.directory.workflow(workflow).ok()?.commands;
        let message = wire::command(&topic, id, self.0.ids.fresh().to_string(), &beat);
        if let Some(Err(error)) = self.0.producer.publish(vec![message]).await.pop() {
            tracing::warn!(task = request.idempotency_key(), %error, "a heartbeat was not sent");
            return None;
        }
        tokio::time::timeout(patience, reply).await.ok().flatten()
    }

    fn event(
        &self,
        request: &TaskRequest,
        what: &str,
        now: Timestamp,
        detail: impl FnOnce(&mut TaskEvent),
    ) -> Option<Message> {
        self.0.events.is_heard().then(|| {
            let mut data = TaskEvent {
                service: request.service.clone(),
                method: request.method.clone(),
                idempotency_key: request.idempotency_key(),
                attempt: request.attempt,
                result: None,
                failure: None,
                retry_at: None,
            };
            detail(&mut data);
            of_task(&self.0.events.name, request, what, now, data)
        })
    }

    /// Says that an attempt began, while it runs.
    async fn started(&self, request: &TaskRequest) {
        let Some(event) = self.event(request, "started", self.0.clock.now(), |_| {}) else { return };
        if let Some(Err(error)) = self.0.producer.publish(vec![event]).await.pop() {
            tracing::warn!(task = request.idempotency_key(), %error, "the event of a started task was not published");
        }
    }

    fn completed(
        &self,
        request: &TaskRequest,
        result: Payload,
        now: Timestamp,
        unit: &mut Unit,
    ) -> partitura_broker::Result<()> {
        unit.publish.extend(self.event(request, "completed", now, |data| data.result = Some(result.clone())));
        unit.publish.push(self.done(request, Reported::Ok(result))?);
        Ok(())
    }

    fn failed(
        &self,
        request: &TaskRequest,
        failure: TaskFailure,
        heartbeat: Option<Payload>,
        now: Timestamp,
        unit: &mut Unit,
    ) -> partitura_broker::Result<()> {
        let again = request.options.retry_after(&failure, request.attempt, random(&*self.0.ids)).map(|wait| now + wait);
        let overall = request.options.overall_timeout.map(|limit| Timestamp::from_millis(request.scheduled_at) + limit);
        let again = again.filter(|at| overall.is_none_or(|end| *at < end));
        let failure_of = |data: &mut TaskEvent| data.failure = Some(failure.failure.clone());
        if let Some(at) = again {
            unit.publish.extend(self.event(request, "retried", now, |data| {
                failure_of(data);
                data.retry_at = Some(at.as_millis());
            }));
            let mut request = request.clone();
            request.attempt += 1;
            request.heartbeat = heartbeat.or(request.heartbeat);
            let id = request.message_id();
            unit.publish.push(Message::new(self.0.topics.tasks.clone(), id, wire::encode(&request)).not_before(at));
            return Ok(());
        }
        unit.publish.extend(self.event(request, "failed", now, failure_of));
        if is_exhausted(request, &failure) {
            unit.publish.extend(self.dead_letter(request, &failure.failure, now)?);
        }
        unit.publish.push(self.done(request, Reported::Err(failure.failure))?);
        Ok(())
    }

    fn done(&self, request: &TaskRequest, outcome: Reported) -> partitura_broker::Result<Message> {
        let TaskRequest { run, seq, attempt, workflow, id, .. } = request;
        let done = Command::TaskDone { run: run.clone(), seq: *seq, attempts: *attempt, outcome };
        Ok(wire::command(&self.0.directory.workflow(workflow)?.commands, id, format!("{run}.{seq}.d"), &done))
    }

    fn dead_letter(
        &self,
        request: &TaskRequest,
        failure: &Failure,
        now: Timestamp,
    ) -> partitura_broker::Result<Option<Message>> {
        let Some(topic) = self.0.topics.source()?.dead_topic()? else { return Ok(None) };
        let fresh = TaskRequest { attempt: 1, heartbeat: None, ..request.clone() };
        let text = |number: u64| Bytes::from(number.to_string());
        let letter = Message::new(topic, request.message_id(), wire::encode(&fresh))
            .header(headers::DEAD_REASON, "attempts-exhausted")
            .header(headers::DEAD_ERROR, failure.to_string())
            .header(headers::DEAD_ATTEMPTS, text(request.attempt.into()))
            .header(headers::DEAD_TOPIC, self.0.topics.tasks.as_str().to_owned())
            .header(headers::DEAD_AT, text(now.as_millis()));
        Ok(Some(letter))
    }
}

impl Handler for TaskRunner {
    async fn handle(&self, batch: Batch) -> Outcome {
        let [delivery] = batch.deliveries() else { return Outcome::retry("tasks are handled one by one") };
        match wire::decode::<TaskRequest>(&delivery.message.payload) {
            Ok(request) => self.run(Arc::new(request), delivery.redelivered, delivery.token).await,
            Err(error) => Outcome::dead(format!("not a task for a service of this version: {error}")),
        }
    }

    /// Perhaps it is our clock that is wrong.
    fn early(&self, delivery: &Delivery) {
        if !self.0.time.is_learnt_from_tasks() {
            return;
        }
        let Ok(TaskRequest { time_at, .. }) = wire::decode(&delivery.message.payload) else { return };
        let runner = self.clone();
        tokio::spawn(async move { runner.0.time.learn(&runner.0.broker, time_at.as_deref()).await });
    }
}

/// Whether it failed after all attempts, rather than by an answer that no attempt would change.
fn is_exhausted(request: &TaskRequest, failure: &TaskFailure) -> bool {
    let transient =
        matches!(failure.failure.kind, FailureKind::Panic | FailureKind::TimedOut | FailureKind::WorkerLost);
    transient || (request.attempt > 1 && failure.retryable != Some(false))
}

async fn deadline(limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else { return std::future::pending().await };
    tokio::time::sleep(limit).await;
    limit
}
