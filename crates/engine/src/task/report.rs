//! How an attempt ended, told until it is taken: a method that has returned is not called again for want of a broker.

use partitura_broker::{AckToken, Error, ErrorKind, Message, Result, Timestamp, Unit};
use partitura_lanes::{Outcome, Trials, headers};
use partitura_workflow::{Failure, FailureKind, Payload, TaskFailure};

use super::attempt::{Ended, Ending};
use super::call::Call;
use super::elsewhere::Unknown;
use super::runner::TaskRunner;
use super::{letter, policy};
use crate::pause::Pause;
use crate::storage::turn_store::{Settlement, is_unsendable};
use crate::telemetry::metrics;
use crate::telemetry::propagator::carry;
use crate::wire::events::{TaskEvent, of_task};
use crate::wire::ids::random;
use crate::wire::shorten::shorten_failure;
use crate::wire::{self, Command, Outcome as Reported, TaskRequest};
use crate::workflow::effects;

/// The messages to be sent when an attempt has ended.
struct Report {
    event: Option<Message>,
    letter: Option<Message>,
    answer: Answer,
}

/// The consequence of an attempt.
enum Answer {
    /// The workflow gets its result.
    Done(Reported),
    /// Another attempt, at this moment, by this request.
    Again(Box<TaskRequest>, Timestamp),
    /// Another attempt, which the instance starts: it watches over the heartbeats of this task, or others have its
    /// token.
    Failed { failure: Failure, at: Timestamp, heartbeat: Option<Payload> },
    /// Nobody yet: the result comes from outside. The instance watches over it until its time-out at this moment.
    Delegated { due: Option<Timestamp>, heartbeat: Option<Payload> },
    /// Nothing: it is no longer wanted.
    Nothing,
    /// The message itself, for others to try.
    Elsewhere(Message),
}

impl TaskRunner {
    /// Reports how an attempt ended, and settles it. Waits for as long as the broker is away.
    pub(super) async fn report(&self, call: &Call, ended: Ended) -> Outcome {
        let report = match self.compose(call, ended) {
            Ok(report) => report,
            Err(error) => return Outcome::dead(error.to_string()),
        };
        self.deliver(call, report).await
    }

    /// Reports that a task is not run again, since its process was lost too often, and settles it.
    pub(super) async fn report_lost(&self, call: &Call, crashes: u32) -> Outcome {
        let (request, now) = (&call.request, self.clock.now());
        let failure = Failure::new(FailureKind::WorkerLost, Trials::reason(crashes));
        tracing::error!(task = request.idempotency_key(), attempt = request.attempt, "a task is given up: {failure}");
        let event = self.event(request, "failed", now, &|data| data.failure = Some(failure.clone()));
        match self.written(call, &failure, now) {
            Ok(letter) => {
                self.deliver(call, Report { event, letter, answer: Answer::Done(Reported::Err(failure)) }).await
            }
            Err(error) => Outcome::dead(error.to_string()),
        }
    }

    /// Publishes a message in place of the delivery, and settles that.
    pub(super) async fn replace(&self, call: &Call, message: Message) -> Outcome {
        self.deliver(call, Report { event: None, letter: None, answer: Answer::Elsewhere(message) }).await
    }

    async fn deliver(&self, call: &Call, mut report: Report) -> Outcome {
        let request = &call.request;
        let mut token = call.take_token();
        let mut pause = Pause::new();
        let mut lightened = false;
        loop {
            let result = match self.messages(call, &mut report) {
                Ok(messages) => self.commit(token, messages).await,
                Err(error) => Err(error),
            };
            let error = match result {
                Ok(outcome) => return outcome,
                Err(error) => error,
            };
            match error.kind() {
                // Another has the delivery. A result counts nevertheless, and so does a token that was handed out;
                // everything else is the other's to say.
                ErrorKind::Fenced
                    if token.is_some() && matches!(report.answer, Answer::Done(_) | Answer::Delegated { .. }) =>
                {
                    token = None;
                }
                ErrorKind::Fenced | ErrorKind::Closed => return Outcome::Lost,
                _ if is_unsendable(&error) && (report.event.is_some() || report.letter.is_some()) => {
                    (report.event, report.letter) = (None, None);
                }
                _ if is_unsendable(&error) && !lightened => {
                    report.answer = lighter(report.answer, &error);
                    lightened = true;
                }
                _ if is_unsendable(&error) => return Outcome::dead(error.to_string()),
                _ => {
                    let (task, attempt) = (request.idempotency_key(), request.attempt);
                    tracing::warn!(task, attempt, ?pause, "sending the result of a task again: {error}");
                    pause.wait().await;
                }
            }
        }
    }

    pub(super) async fn commit(&self, token: Option<AckToken>, publish: Vec<Message>) -> Result<Outcome> {
        let settle = token.into_iter().collect();
        Ok(match self.turn_store.report(Unit { settle, publish, ..Unit::default() }).await? {
            Settlement::Done if token.is_some() => Outcome::Settled,
            // Lanes settle it, if it was not settled for a copy of it.
            _ => Outcome::Done,
        })
    }

    /// The messages of a report. A part that the broker would not take is left out, or replaced by something smaller.
    fn messages(&self, call: &Call, report: &mut Report) -> Result<Vec<Message>> {
        let now = self.clock.now();
        let fits = |message: &Message| self.capabilities.check(message, now);
        report.event.take_if(|event| fits(event).is_err());
        report.letter.take_if(|letter| fits(letter).is_err());
        let mut answer = self.answer(call, &report.answer)?;
        if let Some(Err(error)) = answer.as_ref().map(fits) {
            report.answer = lighter(std::mem::replace(&mut report.answer, Answer::Nothing), &error);
            answer = self.answer(call, &report.answer)?;
        }
        let mut messages: Vec<_> =
            [report.event.clone(), report.letter.clone(), answer].into_iter().flatten().collect();
        let carries = |message: &&mut Message| message.headers.get("traceparent").is_none();
        messages.iter_mut().filter(carries).for_each(|message| carry(message, call.trace()));
        Ok(messages)
    }

    fn answer(&self, call: &Call, answer: &Answer) -> Result<Option<Message>> {
        let TaskRequest { run, seq, attempt, workflow, id, .. } = &*call.request;
        let to_instance = |message_id, command: &Command| {
            let topic = self.directory.workflow(workflow)?.commands;
            Ok::<_, Error>(wire::command(self.directory.payloads(), &topic, id, message_id, command))
        };
        Ok(Some(match answer {
            Answer::Done(outcome) => {
                let outcome = outcome.clone();
                let (run, seq, attempts, completion) = (run.clone(), *seq, *attempt, None);
                let done = Command::TaskDone { run: run.clone(), seq, attempts, outcome, completion };
                to_instance(format!("{run}.{seq}.d"), &done)?
            }
            Answer::Again(request, at) => {
                let again = effects::attempt(&self.directory, (**request).clone(), *at, self.clock.now())?;
                match call.redriven() {
                    Some(times) => again.header(headers::REDRIVEN, times.clone()),
                    None => again,
                }
            }
            Answer::Failed { failure, at, heartbeat } => {
                let (request, failure, details) = (call.request.clone(), failure.clone(), heartbeat.clone());
                let (request, retry_at) = (Box::new((*request).clone()), at.as_millis());
                let failed = Command::AttemptFailed { request, failure, retry_at, details };
                to_instance(format!("{}.f", call.request.message_id()), &failed)?
            }
            Answer::Delegated { due, heartbeat } => {
                let request = Box::new((*call.request).clone());
                let (due, details) = (due.map(Timestamp::as_millis), heartbeat.clone());
                let delegated = Command::TaskDelegated { request, due, details };
                to_instance(format!("{}.g", call.request.message_id()), &delegated)?
            }
            Answer::Elsewhere(message) => message.clone(),
            Answer::Nothing => return Ok(None),
        }))
    }

    /// Composes the report of an attempt that ended like this.
    fn compose(&self, call: &Call, ended: Ended) -> Result<Report> {
        let Ended { ending, is_token_out, heartbeat, cancelled, retry_after } = ended;
        // A wait from now on is never too short.
        let (request, now) = (&call.request, self.clock.now_rounded_up());
        let event = |what, detail: &dyn Fn(&mut TaskEvent)| self.event(request, what, now, detail);
        let mut failure = match ending {
            Ending::Delegated(due) => {
                let event = event("delegated", &|_| {});
                let answer = if cancelled { Answer::Nothing } else { Answer::Delegated { due, heartbeat } };
                return Ok(Report { event, letter: None, answer });
            }
            Ending::Result(Ok(result)) => {
                let event = event("completed", &|data| data.result = Some(result.clone()));
                return Ok(Report { event, letter: None, answer: Answer::Done(Reported::Ok(result)) });
            }
            Ending::Result(Err(failure)) => failure,
        };
        if failure.is_foreign() {
            match self.unknown(&call.message, &failure.failure.message) {
                Unknown::PutBack(again) => {
                    return Ok(Report { event: None, letter: None, answer: Answer::Elsewhere(*again) });
                }
                Unknown::Report(problem) => failure.failure.message = problem,
            }
        }
        let failed = |data: &mut TaskEvent| data.failure = Some(failure.failure.clone());
        if cancelled {
            return Ok(Report { event: event("failed", &failed), letter: None, answer: Answer::Nothing });
        }
        if let Some(at) = policy::next_attempt(request, &failure, retry_after, random(&*self.ids), now) {
            let event = event("retried", &|data| {
                failed(data);
                data.retry_at = Some(at.as_millis());
            });
            // The instance then refuses the token of this one.
            let is_watched = request.options.heartbeat_timeout.is_some() || is_token_out;
            let answer = if is_watched && !request.detached {
                Answer::Failed { failure: failure.failure, at, heartbeat }
            } else {
                let mut next =
                    TaskRequest { attempt: request.attempt + 1, holder: None, copies: 0, ..(**request).clone() };
                next.heartbeat = heartbeat.or(next.heartbeat);
                Answer::Again(Box::new(next), at)
            };
            return Ok(Report { event, letter: None, answer });
        }
        let event = event("failed", &failed);
        let letter = self.letter(call, &failure, now)?;
        if letter.is_some() {
            metrics::task_died(self.topics.tasks.as_str());
        }
        Ok(Report { event, letter, answer: Answer::Done(Reported::Err(failure.failure)) })
    }

    fn letter(&self, call: &Call, failure: &TaskFailure, now: Timestamp) -> Result<Option<Message>> {
        if !policy::is_exhausted(&call.request, failure) {
            return Ok(None);
        }
        self.written(call, &failure.failure, now)
    }

    fn written(&self, call: &Call, failure: &Failure, now: Timestamp) -> Result<Option<Message>> {
        let (source, limits) = (self.topics.source()?, &self.capabilities.limits);
        let letter = letter::write(self.directory.payloads(), &call.request, (&source, limits), failure, now)?;
        Ok(match call.redriven() {
            Some(times) => letter.map(|letter| letter.header(headers::REDRIVEN, times.clone())),
            None => letter,
        })
    }

    fn event(
        &self,
        request: &TaskRequest,
        what: &str,
        now: Timestamp,
        detail: &dyn Fn(&mut TaskEvent),
    ) -> Option<Message> {
        self.events.is_heard().then(|| {
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
            of_task(&self.events.name, request, what, now, data)
        })
    }

    /// Says that an attempt began, while it runs.
    pub(super) async fn started(&self, request: &TaskRequest) {
        let Some(event) = self.event(request, "started", self.clock.now(), &|_| {}) else { return };
        if let Some(Err(error)) = self.producer.publish(vec![event]).await.pop() {
            tracing::warn!(task = request.idempotency_key(), %error, "the event of a started task was not published");
        }
    }
}

/// An answer in place of one that the broker refuses, and would refuse each time.
fn lighter(answer: Answer, error: &Error) -> Answer {
    match answer {
        Answer::Done(_) => {
            let message = format!("the task ended, but the broker refuses what it returned: {error}");
            Answer::Done(Reported::Err(Failure::new(FailureKind::Unknown, message)))
        }
        // The next attempt does without the progress of this one.
        Answer::Again(request, at) => Answer::Again(Box::new(TaskRequest { heartbeat: None, ..*request }), at),
        Answer::Failed { mut failure, at, .. } => {
            shorten_failure(&mut failure);
            Answer::Failed { failure, at, heartbeat: None }
        }
        Answer::Delegated { due, .. } => Answer::Delegated { due, heartbeat: None },
        other => other,
    }
}
