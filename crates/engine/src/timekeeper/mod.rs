//! Compares this machine's clock with the one that all workers of a deployment go by, and corrects it.
//!
//! Moments are set by one process and judged by another: a retry, a timer, a limit for all attempts. So all go by one
//! clock: that of the store, which every runner of workflows reaches. A worker without a store asks the runner from
//! which it got a task. See `docs/adr/0017-one-clock-for-all-workers.md`.
//!
//! Source of the estimate: the clock filter of NTP (RFC 5905, section 10), reduced to its core. A reading is as old as
//! half its round trip, give or take the other half, so the shortest round trip of several knows best.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use partitura_broker::{
    Broker, CorrectedClock, Error, ErrorKind, InboxAddress, Producer, ProducerOptions, Result, Timestamp, TopicName,
};
use tokio::sync::{Mutex as Turns, OnceCell};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::messaging::directory::Directory;
use crate::messaging::mailbox::Mailbox;
use crate::storage::store::Store;
use crate::telemetry::metrics;
use crate::wire::{self, ReplyBody};

/// How many readings make an estimate, at most.
const READINGS: usize = 5;
/// A round trip so short needs no second one.
const SHORT: Duration = Duration::from_millis(2);
/// How long an estimate is used before the clocks are compared again.
const AGAIN: Duration = Duration::from_secs(60);
/// How long an answer is waited for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// A difference beyond this is warned about.
const WORTH_A_WARNING: Duration = Duration::from_secs(1);

/// How far the clock of the deployment is from that of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockOffset {
    /// The correction of the time of this machine, in milliseconds: negative where this machine is ahead.
    pub millis: i64,
    /// By how much that may be wrong: half the shortest round trip of the last comparison, and a millisecond.
    pub within: Duration,
}

/// Keeps a clock in step with that of the deployment.
#[derive(Debug)]
pub(crate) struct Timekeeper {
    clock: CorrectedClock,
    reference: Reference,
    state: Mutex<State>,
    begun: OnceCell<()>,
}

/// Where the time of the deployment is read.
#[derive(Debug)]
pub(crate) enum Reference {
    /// Nowhere: the clock was given, or this process is the whole deployment.
    Own,
    /// From the server of the store.
    Store(Arc<dyn Store>),
    /// From the runners that send us tasks.
    WorkflowRunners(WorkflowRunners),
}

#[derive(Debug)]
pub(crate) struct WorkflowRunners {
    mailbox: Arc<Mailbox>,
    /// Sends the questions, and is held while they are under way.
    asking: Turns<Asking>,
}

#[derive(Debug, Default)]
struct Asking {
    producer: Option<Box<dyn Producer>>,
    /// Inboxes that gave no answer: their processes are gone.
    silent: HashSet<String>,
}

#[derive(Debug, Default)]
struct State {
    offset: Option<ClockOffset>,
    compared: Option<Instant>,
    /// The difference that was warned about last, in milliseconds.
    warned: i64,
    told_unknown: bool,
    repeating: Option<AbortHandle>,
}

impl Reference {
    pub(crate) fn workflow_runners(mailbox: Arc<Mailbox>) -> Self {
        Self::WorkflowRunners(WorkflowRunners { mailbox, asking: Turns::default() })
    }
}

impl Timekeeper {
    pub(crate) fn new(clock: CorrectedClock, reference: Reference) -> Arc<Self> {
        Arc::new(Self { clock, reference, state: Mutex::default(), begun: OnceCell::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The estimate; `None` before the first one.
    pub(crate) fn offset(&self) -> Option<ClockOffset> {
        self.state().offset
    }

    /// Compares the clocks for the first time, before moments are set; then once a minute, for as long as this lives.
    /// Tells the time to workers without a store, too.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        broker: &dyn Broker,
        mailbox: &Mailbox,
        directory: &Directory,
    ) -> Result<()> {
        let Reference::Store(store) = &self.reference else {
            if matches!(self.reference, Reference::Own) {
                metrics::clock_compared(0);
            }
            return Ok(());
        };
        let begin = async {
            let producer = broker.producer(ProducerOptions::default()).await?;
            if self.compare(|| store.now()).await {
                let (keeper, store) = (Arc::downgrade(self), store.clone());
                let repeating = tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(AGAIN).await;
                        let Some(keeper) = keeper.upgrade() else { return };
                        keeper.compare(|| store.now()).await;
                    }
                });
                self.state().repeating = Some(repeating.abort_handle());
            }
            directory.tell_time_at(mailbox.tell_time(producer, Arc::new(self.clock.clone())));
            Ok(())
        };
        self.begun.get_or_try_init(|| begin).await.map(drop)
    }

    /// Whether tasks are the only way to learn the time.
    pub(crate) fn is_learnt_from_tasks(&self) -> bool {
        matches!(self.reference, Reference::WorkflowRunners(_))
    }

    /// Learns the time from the worker that sent a task, where this is the only way to learn it: waits for the first
    /// estimate, and has later ones made beside it.
    pub(crate) async fn learn(self: &Arc<Self>, broker: &Arc<dyn Broker>, time_at: Option<&str>) {
        let Reference::WorkflowRunners(runners) = &self.reference else { return };
        let compared = self.state().compared;
        match compared {
            Some(at) if at.elapsed() < AGAIN => {}
            Some(_) => {
                let (keeper, broker, inbox) = (self.clone(), broker.clone(), time_at.map(str::to_owned));
                tokio::spawn(async move {
                    let Reference::WorkflowRunners(runners) = &keeper.reference else { return };
                    if let (Some(inbox), Ok(mut asking)) = (inbox, runners.asking.try_lock()) {
                        keeper.ask(runners, &mut asking, &*broker, &inbox).await;
                    }
                });
            }
            None => match time_at {
                Some(inbox) => {
                    let mut asking = runners.asking.lock().await;
                    // Perhaps it was waited for long enough.
                    if self.state().compared.is_none() {
                        self.ask(runners, &mut asking, &**broker, inbox).await;
                    }
                }
                None => self.unknown("a task came from a worker of an earlier version, which tells no time"),
            },
        }
    }

    async fn ask(&self, runners: &WorkflowRunners, asking: &mut Asking, broker: &dyn Broker, inbox: &str) {
        if asking.silent.contains(inbox) {
            return;
        }
        let producer = match asking.producer.take() {
            Some(producer) => producer,
            None => match broker.producer(ProducerOptions::default()).await {
                Ok(producer) => producer,
                Err(error) => return tracing::debug!(%error, "the time cannot be asked for yet"),
            },
        };
        let (address, mailbox) = (InboxAddress::new(inbox), &runners.mailbox);
        if !self.compare(|| ask(&*producer, mailbox, &address)).await {
            // One address for each process that ever sent a task: nothing that grows without end in practice.
            asking.silent.insert(inbox.to_owned());
        }
        asking.producer = Some(producer);
    }

    /// Reads the other clock a few times, and corrects ours by the best reading. Gives whether it can be read at all.
    async fn compare<F>(&self, read: impl Fn() -> F) -> bool
    where
        F: Future<Output = Result<Option<Timestamp>>>,
    {
        match estimate(&self.clock, read).await {
            Ok(Some(estimate)) => self.correct(estimate),
            Ok(None) => {
                self.unknown("the store tells no time");
                return false;
            }
            Err(error) => {
                tracing::debug!(%error, "the clocks could not be compared");
                self.unknown(&format!("the clock could not be read: {error}"));
                return !matches!(self.reference, Reference::WorkflowRunners(_));
            }
        }
        true
    }

    /// Changes the correction only if it is certainly wrong, so that it does not tremble with the round trips.
    fn correct(&self, estimate: ClockOffset) {
        let within = i64::try_from(estimate.within.as_millis()).unwrap_or(i64::MAX);
        if (estimate.millis - self.clock.offset()).abs() > within {
            self.clock.correct(estimate.millis);
        }
        let mut state = self.state();
        let millis = self.clock.offset();
        metrics::clock_compared(millis);
        state.offset = Some(ClockOffset { millis, within: estimate.within });
        state.compared = Some(Instant::now());
        let much = WORTH_A_WARNING.as_millis() as u64;
        if millis.unsigned_abs() > much && millis.abs_diff(state.warned) > much {
            state.warned = millis;
            let (off, side) =
                (Duration::from_millis(millis.unsigned_abs()), if millis > 0 { "behind" } else { "ahead of" });
            tracing::warn!(
                offset_ms = millis,
                "the clock of this machine is {off:?} {side} that of the deployment; moments are corrected by that, but set the \
                 clock right: logs and other programs go by it"
            );
        }
    }

    fn unknown(&self, why: &str) {
        let mut state = self.state();
        if state.offset.is_none() && !std::mem::replace(&mut state.told_unknown, true) {
            tracing::info!(
                "{why}, so moments are set and judged by the clock of this machine; keep the clocks of all workers in step"
            );
        }
    }
}

impl Drop for Timekeeper {
    fn drop(&mut self) {
        if let Some(repeating) = self.state().repeating.take() {
            repeating.abort();
        }
    }
}

async fn estimate<F>(clock: &CorrectedClock, read: impl Fn() -> F) -> Result<Option<ClockOffset>>
where
    F: Future<Output = Result<Option<Timestamp>>>,
{
    let mut best: Option<ClockOffset> = None;
    for _ in 0..READINGS {
        let (ours, began) = (clock.uncorrected(), Instant::now());
        let theirs = match read().await {
            Ok(Some(theirs)) => theirs,
            Err(error) if best.is_none() => return Err(error),
            Ok(None) | Err(_) => break,
        };
        let half = began.elapsed() / 2;
        let ours = ours.as_millis() as i64 + half.as_millis() as i64;
        let reading = ClockOffset { millis: theirs.as_millis() as i64 - ours, within: half + Duration::from_millis(1) };
        if best.is_none_or(|best| reading.within < best.within) {
            best = Some(reading);
        }
        if half * 2 <= SHORT {
            break;
        }
    }
    Ok(best)
}

async fn ask(producer: &dyn Producer, mailbox: &Mailbox, inbox: &InboxAddress) -> Result<Option<Timestamp>> {
    let (reply_to, reply) = mailbox.request();
    let question = wire::TimeQuestion { time_for: reply_to };
    let message = partitura_broker::Message::new(TopicName::new("time")?, "time", wire::encode(&question));
    producer.reply(vec![(inbox.clone(), message)]).await?;
    match tokio::time::timeout(REQUEST_TIMEOUT, reply).await {
        Ok(Some(ReplyBody::Time(millis))) => Ok(Some(Timestamp::from_millis(millis))),
        _ => Err(Error::new(ErrorKind::Timeout, "ask for the time", "no answer; is that worker gone?")),
    }
}

#[cfg(test)]
mod tests;
