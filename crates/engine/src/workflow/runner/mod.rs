//! The handler of a workflow's commands: takes an instance from the cache or the store, advances it, commits, goes on.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use partitura_broker::{AckToken, Delivery, Error, ErrorKind, Partition, Producer, Unit};
use partitura_lanes::Outcome;
use tracing::Instrument;

use self::elsewhere::Elsewhere;
use self::kept::Kept;
use crate::storage::crashes::Crashes;
use crate::storage::history::run_prefix;
use crate::storage::outbox::is_refusal;
use crate::storage::turn_store::Settlement;
use crate::telemetry::metrics::{self, Phase, Stopwatch};
use crate::wire::names::InstanceKey;
use crate::wire::payloads::Read;
use crate::wire::{self, Command, Outcome as Ended, ReplyBody, ReplyTo};
use crate::workflow::by_instance::{ByInstance, at_most};
use crate::workflow::instance::Instance;
use crate::workflow::turn::Turn;
use crate::workflow::turn::after_commit::{AfterCommit, Finished};
use crate::workflow::turn::context::Context;
use crate::workflow::turn::trace::TurnTrace;
use crate::workflow::update_waiters::UpdateWaiters;

mod crashing;
mod elsewhere;
mod expiring;
mod handler;
mod held_up;
mod holding;
mod kept;
mod layering;
mod step;
mod stopping;
mod takeover;

/// How often a turn is taken again at once because another was faster.
const CONFLICTS: u32 = 3;
/// Clients that may wait for one instance, and instances that may be waited for. Beyond that
/// the client that waited longest is forgotten, and asks again.
const WAITERS: usize = 64;
const WAITED_FOR: NonZeroUsize = NonZeroUsize::MIN.saturating_add(100_000 - 1);

/// Conducts all instances of one workflow whose partitions this worker owns.
#[derive(Debug, Clone)]
pub(crate) struct WorkflowRunner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: Context,
    workflow: Arc<str>,
    producer: Arc<dyn Producer>,
    live: Mutex<Kept>,
    elsewhere: Elsewhere,
    crashes: Crashes,
    /// How many commands a worker holds at a time.
    concurrency: NonZeroUsize,
    waiters: Mutex<ByInstance<(Partition, Vec<ReplyTo>)>>,
    update_waiters: UpdateWaiters,
}

/// The subject of a turn: commands to one instance, and the term in which their partition was ours when it began.
#[derive(Clone, Copy)]
struct Work<'a> {
    deliveries: &'a [Delivery],
    attempt: u32,
    partition: Partition,
    term: u64,
}

impl WorkflowRunner {
    pub(crate) fn new(
        context: Context,
        producer: Arc<dyn Producer>,
        (cache, elsewhere): (NonZeroUsize, Duration),
        (crashes, concurrency): (Crashes, NonZeroUsize),
    ) -> Self {
        let workflow = context.definition.name().into();
        let elsewhere = Elsewhere::new(elsewhere, context.build.clone());
        Self(Arc::new(Inner {
            elsewhere,
            crashes,
            concurrency,
            context,
            workflow,
            producer,
            live: Mutex::new(Kept::new(cache)),
            waiters: Mutex::new(at_most(WAITED_FOR)),
            update_waiters: UpdateWaiters::default(),
        }))
    }

    fn live(&self) -> MutexGuard<'_, Kept> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiters(&self) -> MutexGuard<'_, ByInstance<(Partition, Vec<ReplyTo>)>> {
        self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn that commands to one instance ask for, which came in this term of their partition.
    async fn turn(&self, key: &InstanceKey, deliveries: &[Delivery], attempt: u32, term: u64) -> Outcome {
        let partition = deliveries.first().map(|delivery| delivery.partition).unwrap_or_default();
        if let Err(lost) = self.is_recovered(partition).await {
            return lost;
        }
        let (cached, ours_since) = {
            let mut kept = self.live();
            // Another worker goes on with it, while it was noted that the turn begins, say. The instance must not be kept
            // from now on: it would be out of date when the partition comes back.
            if kept.term(partition) != term {
                return Outcome::Lost;
            }
            (kept.instances.pop(key).map(|(_, instance)| instance), kept.since(partition))
        };
        let work = Work { deliveries, attempt, partition, term };
        metrics::cache(cached.is_some());
        let held = self.held().await;
        let context = &self.0.context;
        let mut turn = Turn::new(context, key, cached.unwrap_or(Instance::Unknown));
        for _ in 0..CONFLICTS {
            turn.ours_since = ours_since;
            turn.held.clone_from(&held);
            turn.is_last_chance = self.is_last_chance(key, work);
            turn.trace = TurnTrace::from_deliveries(deliveries);
            let watch = Stopwatch::start();
            if let Err(refused) = self.advance(&mut turn, work).await {
                return refused;
            }
            metrics::turn(Phase::Advance, watch);
            match self.commit(key, work, turn).await {
                Ok(outcome) => return outcome,
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) if is_refusal(error.kind()) => {
                    let reason = format!(
                        "workflow {key} stopped: the broker or the store refuses its turn: {error}\n  mend the cause, or \
                         the code; the instance goes on from its history by itself, or at once when it is resumed"
                    );
                    return self.stop(key, work, reason).await;
                }
                Err(error) => return failed(key, &error),
            }
            turn = Turn::new(context, key, Instance::Unknown).certain();
        }
        Outcome::retry(format!("{key} is changed by another worker at the same time"))
    }

    /// Waits until what earlier owners of the partition decided to send went out: nothing must overtake it.
    async fn is_recovered(&self, partition: Partition) -> Result<(), Outcome> {
        let recovered = self.live().recovered(partition);
        match recovered {
            Some(recovered) => recovered.await.map_err(|_| Outcome::Lost),
            None => Ok(()),
        }
    }

    async fn advance(&self, turn: &mut Turn<'_>, work: Work<'_>) -> Result<(), Outcome> {
        for delivery in work.deliveries {
            let payloads = self.0.context.directory.payloads();
            let Read { value: command, unreadable } = match payloads.read::<Command>(&delivery.message.payload) {
                Ok(read) => read,
                Err(error) => {
                    return Err(self.give_up_unknown(turn.key(), work, &error).await);
                }
            };
            if let Some(problem) = unreadable.filter(|_| command.is_read_by_code()) {
                return Err(self.give_up_unreadable(turn.key(), work, command, problem).await);
            }
            if let (Command::TimerDue { later: None, .. }, Some(due)) = (&command, delivery.message.not_before) {
                metrics::timer_fires(self.0.context.clock.now().since(due));
            }
            if matches!(command, Command::Resume) && turn.held.is_some() {
                turn.held = self.held_now().await?;
            }
            if let Err(abandoned) = turn.handle(command, delivery.message.id.as_str()).await {
                return Err(self.give_up(turn.key(), work, abandoned).await);
            }
        }
        Ok(())
    }

    async fn commit(&self, key: &InstanceKey, work: Work<'_>, turn: Turn<'_>) -> Result<Outcome, Error> {
        if let Some(outbox) = self.0.context.turn_store.outbox()
            && (work.deliveries.iter().any(|delivery| delivery.redelivered)
                || outbox.is_in_doubt(work.partition, &key.id))
        {
            outbox.recover_late(work.partition, &key.id, work.term).await?;
        }
        let settle: Vec<AckToken> = work.deliveries.iter().map(|delivery| delivery.token).collect();
        let Finished { unit, run, instance, span, after } = turn.finish(settle.clone()).await?;
        let unit = match unit {
            // A question behind a command that was refused is not answered from the state before it: another owner may
            // have it.
            None if self.live().suspects.contains(&work.partition) => Some(Unit { settle, ..Unit::default() }),
            unit => unit,
        };
        let settlement = match unit {
            Some(unit) => {
                let (run, watch) = (run_prefix(key, &run), Stopwatch::start());
                let commit = self.0.context.turn_store.commit(unit, (work.partition, work.term), &run);
                let committed = commit.instrument(span).await;
                metrics::turn(Phase::Commit, watch);
                committed.inspect_err(|error| self.suspect(work, error))?
            }
            None => Settlement::Due,
        };
        if let Some(outbox) = self.0.context.turn_store.outbox() {
            outbox.is_certain(work.partition, &key.id);
        }
        self.committed(key, work, instance, after).await;
        Ok(match settlement {
            Settlement::Done => Outcome::Settled,
            Settlement::Due => Outcome::Done,
        })
    }

    fn suspect(&self, work: Work<'_>, error: &Error) {
        let mut kept = self.live();
        if error.kind() == ErrorKind::Fenced && kept.term(work.partition) == work.term {
            kept.suspects.insert(work.partition);
        }
    }

    /// Does what follows a commit and need not be durable.
    async fn committed(
        &self,
        key: &InstanceKey,
        Work { partition, term, .. }: Work<'_>,
        instance: Instance,
        after: AfterCommit,
    ) {
        let ends = after.ended.iter().chain(after.replaced.iter().map(|(outcome, _)| outcome)).map(Ended::failure);
        metrics::instances(&self.0.workflow, (after.started, after.stopped), ends);
        let AfterCommit { mut replies, waiters, ended, stops, replaced, .. } = after;
        if after.is_held {
            self.look_after_held(key);
        }
        if let Some(due) = after.expires {
            self.live().expires(partition, due);
        }
        if instance.is_worth_keeping() {
            let mut kept = self.live();
            if kept.term(partition) == term {
                kept.instances.push(key.clone(), (partition, instance));
            }
        }
        for (outcome, waiters) in replaced {
            self.remember(key, partition, waiters, Some(&outcome), &mut replies);
        }
        self.remember(key, partition, waiters, ended.as_ref(), &mut replies);
        let callers = (after.update_waiters, after.answered);
        replies.extend(self.0.update_waiters.add_and_answer((key, partition), callers.0, callers.1));
        if let Some(reason) = stops {
            let waiting = self.waiters().pop(key).map(|(_, waiting)| waiting).unwrap_or_default();
            replies.extend(waiting.into_iter().map(|to| (to, ReplyBody::Stopped { reason: reason.clone() })));
        }
        // Those that have told only now where they listen are wanted.
        replies.extend(self.0.context.listeners.take(key, after.cancelled_tasks));
        self.0.context.listeners.add(key, partition, after.listening);
        self.send(key, replies).await;
        self.0.context.delay_cancellation.cancel(after.cancelled_delays);
        for (run, step) in after.dropped_steps {
            self.0.context.steps.drop_those(&run, step);
        }
        for (run, step) in after.steps {
            self.run_step(key, run, step);
        }
    }

    async fn send(&self, key: &InstanceKey, replies: Vec<(ReplyTo, ReplyBody)>) {
        if replies.is_empty() {
            return;
        }
        let Context { topics, directory, .. } = &self.0.context;
        let (payloads, limit) = (directory.payloads(), directory.payload_limit());
        let reply = |(to, body)| wire::reply(payloads, &topics.commands, &to, body, limit);
        let replies = replies.into_iter().map(reply).collect();
        if let Err(error) = self.0.producer.reply(replies).await {
            // The client that waits asks again.
            tracing::debug!(instance = %key, %error, "a reply was not sent");
        }
    }

    fn remember(
        &self,
        key: &InstanceKey,
        partition: Partition,
        new: Vec<ReplyTo>,
        ended: Option<&Ended>,
        replies: &mut Vec<(ReplyTo, ReplyBody)>,
    ) {
        let Some(outcome) = ended else {
            if !new.is_empty() {
                let mut waiters = self.waiters();
                let (_, waiting) = waiters.get_or_insert_mut(key.clone(), || (partition, Vec::new()));
                waiting.extend(new);
                let excess = waiting.len().saturating_sub(WAITERS);
                waiting.drain(..excess);
            }
            return;
        };
        let mut waiting = self.waiters().pop(key).map(|(_, waiting)| waiting).unwrap_or_default();
        for to in new {
            if !waiting.contains(&to) {
                waiting.push(to);
            }
        }
        replies.extend(waiting.into_iter().map(|to| (to, ReplyBody::Ended(outcome.clone()))));
    }
}

fn failed(key: &InstanceKey, error: &Error) -> Outcome {
    match error.kind() {
        ErrorKind::Fenced => Outcome::Lost,
        kind => {
            let final_kind = !kind.is_retryable() && kind != ErrorKind::Conflict;
            if final_kind {
                tracing::error!(instance = %key, %error, "a turn failed; it is taken again later");
            } else {
                tracing::warn!(instance = %key, %error, "a turn failed; it is taken again");
            }
            Outcome::retry(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
