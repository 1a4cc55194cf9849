//! The messages between a running task and the owner of its instance.

use std::convert::Infallible;
use std::time::Duration;

use partitura_broker::Result;
use partitura_workflow::Payload;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::runner::TaskRunner;
use crate::messaging::mailbox::Line;
use crate::wire::{self, Command, ReplyBody, ReplyTo, TaskRequest};

/// How long an attempt waits for word whether it is still wanted. Without an answer it runs.
pub(super) const ASK: Duration = Duration::from_secs(5);
/// Heartbeats are sent at most this often, unless the time-out asks for more.
const BEAT: Duration = Duration::from_secs(1);
/// A task that has run for this long says where it listens: most are over before.
const LISTEN_AFTER: Duration = Duration::from_secs(2);
/// How often it says so again: the instance may have a new owner.
const LISTEN_AGAIN: Duration = Duration::from_secs(30);

/// The answer of an instance about an attempt that is about to begin.
pub(super) enum Answer {
    /// It is wanted; and what is known of the progress of which attempt.
    Continue(Option<(u32, Payload)>),
    Cancelled,
    None,
}

impl TaskRunner {
    /// Asks the instance whether an attempt is still wanted.
    pub(super) async fn ask_if_cancelled(&self, request: &TaskRequest, line: &mut Line) -> Answer {
        let begins = request.is_announced();
        let answer = async {
            if !self.say(request, Word { alive: begins, ..Word::default() }, line.address()).await {
                return Answer::None;
            }
            loop {
                match line.next().await {
                    ReplyBody::Heartbeat { wanted: false, .. } => return Answer::Cancelled,
                    ReplyBody::Heartbeat { details, attempt, .. } => {
                        return Answer::Continue(details.map(|details| (attempt.unwrap_or_default(), details)));
                    }
                    ReplyBody::StillRuns { reply_to } => self.tell_that_it_runs(&reply_to).await,
                    _ => {}
                }
            }
        };
        timeout(ASK, answer).await.unwrap_or(Answer::None)
    }

    /// Asks the worker that sent a copy of an attempt whether it still runs there.
    pub(super) async fn still_runs(&self, holder: &ReplyTo) -> bool {
        let (reply_to, reply) = self.mailbox.request();
        match self.tell(holder, ReplyBody::StillRuns { reply_to }).await {
            // Nobody was asked.
            Err(error) if error.is_retryable() => true,
            _ => matches!(timeout(ASK, reply).await, Ok(Some(ReplyBody::Runs))),
        }
    }

    /// Tells workers that ask that the attempt is here, and does nothing else.
    pub(super) async fn answer_askers(&self, line: &mut Line) -> Infallible {
        loop {
            if let ReplyBody::StillRuns { reply_to } = line.next().await {
                self.tell_that_it_runs(&reply_to).await;
            }
        }
    }

    async fn tell_that_it_runs(&self, reply_to: &ReplyTo) {
        // The worker that asked does so again, or runs it.
        let _ = self.tell(reply_to, ReplyBody::Runs).await;
    }

    async fn tell(&self, to: &ReplyTo, body: ReplyBody) -> Result<()> {
        let payloads = self.directory.payloads();
        let message = wire::reply(payloads, &self.topics.tasks, to, body, self.directory.payload_limit());
        let told = self.producer.reply(vec![message]).await;
        told.inspect_err(|error| tracing::debug!(%error, "a message to another worker was not sent"))
    }

    /// Sends a sign of life, or only a question, to the instance. Whether it was sent.
    pub(super) async fn say(&self, request: &TaskRequest, word: Word, reply_to: &ReplyTo) -> bool {
        let TaskRequest { run, seq, attempt, workflow, id, .. } = request;
        let (run, reply_to, Word { details, alive, held_up }) = (run.clone(), reply_to.clone(), word);
        let (seq, attempt, by_token) = (*seq, *attempt, false);
        let beat = Command::Heartbeat { run, seq, attempt, details, alive, by_token, held_up, reply_to };
        let Ok(topics) = self.directory.workflow(workflow) else { return false };
        let (payloads, fresh) = (self.directory.payloads(), self.ids.fresh().to_string());
        let message = wire::command(payloads, &topics.commands, id, fresh, &beat);
        match self.producer.publish(vec![message]).await.pop() {
            Some(Ok(_)) => true,
            Some(Err(error)) => {
                tracing::warn!(task = request.idempotency_key(), %error, "a heartbeat was not sent");
                false
            }
            None => false,
        }
    }
}

/// Tells an instance of an attempt.
#[derive(Debug, Default)]
pub(super) struct Word {
    pub(super) details: Option<Payload>,
    /// It is a sign of life, and not only a question.
    pub(super) alive: bool,
    /// Since when its method has not come back, in milliseconds since the Unix epoch.
    pub(super) held_up: Option<u64>,
}

/// Sends what a method says of its progress, and hears whether it is still wanted.
pub(super) struct Pulse<'a> {
    runner: &'a TaskRunner,
    request: &'a TaskRequest,
    beats: watch::Receiver<Option<Payload>>,
    cancelled: watch::Sender<bool>,
    line: &'a mut Line,
    /// How long the method may be silent.
    limit: Option<Duration>,
    /// Heartbeats are sent at this interval, and this long after one that was not answered: a workflow that is slow to
    /// answer is not asked again at once, since beats would only queue up before it.
    interval: Duration,
    patience: Duration,
    silent_at: Instant,
    next_beat: Instant,
    next_word: Instant,
    /// Whether the method may beat still.
    beating: bool,
}

impl<'a> Pulse<'a> {
    pub(super) fn new(
        runner: &'a TaskRunner,
        request: &'a TaskRequest,
        beats: watch::Receiver<Option<Payload>>,
        cancelled: watch::Sender<bool>,
        line: &'a mut Line,
        begun: bool,
    ) -> Self {
        let (now, limit) = (Instant::now(), request.options.heartbeat_timeout);
        let third = limit.map_or(ASK, |limit| limit / 3);
        let first_word = match (request.is_announced(), begun) {
            // The owner of the instance watches over the start, and over the heartbeats from then on.
            (true, false) => Duration::ZERO,
            (_, true) => LISTEN_AGAIN,
            (false, false) => LISTEN_AFTER,
        };
        Self {
            runner,
            request,
            beats,
            cancelled,
            line,
            limit,
            interval: BEAT.min(third),
            patience: ASK.min(third),
            silent_at: now + limit.unwrap_or_default(),
            next_beat: now,
            next_word: now + first_word,
            beating: true,
        }
    }

    /// Ends when the method was silent for too long, with the limit.
    pub(super) async fn until_silent(mut self) -> Duration {
        let mut first = self.request.is_announced() && self.next_word <= Instant::now();
        loop {
            let wanted = !*self.cancelled.borrow();
            let may_beat = self.beating && wanted;
            let next_beat = self.next_beat;
            tokio::select! {
                biased;
                body = self.line.next() => self.hear(body).await,
                changed = async { sleep_until(next_beat).await; self.beats.changed().await }, if may_beat => {
                    self.beating = changed.is_ok();
                    if self.beating {
                        self.beat().await;
                    }
                }
                () = sleep_until(self.silent_at), if self.limit.is_some() && wanted => {
                    return self.limit.unwrap_or_default();
                }
                () = sleep_until(self.next_word), if wanted => {
                    let sent = self.word(None, first).await;
                    first &= !sent;
                    self.next_word = Instant::now() + if first { self.interval } else { LISTEN_AGAIN };
                }
            }
        }
    }

    async fn hear(&mut self, body: ReplyBody) {
        match body {
            ReplyBody::Heartbeat { wanted, .. } => {
                self.next_beat = self.next_beat.min(Instant::now() + self.interval);
                if !wanted {
                    self.cancelled.send_replace(true);
                }
            }
            ReplyBody::StillRuns { reply_to } => self.runner.tell_that_it_runs(&reply_to).await,
            _ => {}
        }
    }

    async fn beat(&mut self) {
        let now = Instant::now();
        self.silent_at = now + self.limit.unwrap_or_default();
        let details = self.beats.borrow_and_update().clone();
        self.next_beat = now + self.patience.max(self.interval);
        if self.word(details, true).await {
            self.next_word = now + LISTEN_AGAIN;
        }
    }

    async fn word(&mut self, details: Option<Payload>, alive: bool) -> bool {
        let word = Word { details, alive, held_up: None };
        let said = self.runner.say(self.request, word, self.line.address());
        timeout(self.patience, said).await.unwrap_or(false)
    }
}
