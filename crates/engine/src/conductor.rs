//! The handler of a workflow's commands: takes an instance from the cache or the store, advances it, commits, goes on.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use partitura_broker::{AckToken, Clock, Delivery, ErrorKind, Partition, Producer, Unit};
use partitura_lanes::{Batch, Handler, Outcome};
use partitura_workflow::{Failure, FailureKind, Step, StopReason};
use tokio::sync::Semaphore;

use crate::instance::Live;
use crate::journal::{Settlement, is_unsendable};
use crate::names::InstanceKey;
use crate::turn::{Abandoned, Context, Instance, Turn};
use crate::wire::{self, Command, Outcome as Ended, ReplyBody, ReplyTo};

/// How often a turn whose code panics is taken again before the instance counts as stopped.
const PANICS: u32 = 5;
/// How often a turn is taken again at once because another was faster.
const CONFLICTS: u32 = 3;
/// Clients that may wait for one instance, and instances that may be waited for. Whoever waited longest is forgotten
/// beyond that, and asks again.
const WAITERS: usize = 64;
const WAITED_FOR: NonZeroUsize = NonZeroUsize::MIN.saturating_add(100_000 - 1);

/// Conducts all instances of one workflow whose partitions this worker owns.
#[derive(Debug, Clone)]
pub(crate) struct Conductor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: Context,
    workflow: Arc<str>,
    clock: Arc<dyn Clock>,
    producer: Arc<dyn Producer>,
    live: Mutex<Kept>,
    waiters: Mutex<LruCache<InstanceKey, (Partition, Vec<ReplyTo>)>>,
    /// Bounds the inline steps that run at a time.
    steps: Arc<Semaphore>,
}

/// The instances that are kept in memory between their turns.
#[derive(Debug)]
struct Kept {
    instances: LruCache<InstanceKey, (Partition, Box<Live>)>,
    /// How often each partition has gone elsewhere. A turn that began before that must not leave its instance behind:
    /// should the partition come back, it would be out of date, and pass over what it does not expect.
    terms: HashMap<Partition, u64>,
    /// Partitions in which the broker has refused a settlement: perhaps another has them, and we are yet to hear of it.
    suspects: HashSet<Partition>,
}

impl Kept {
    fn term(&self, partition: Partition) -> u64 {
        self.terms.get(&partition).copied().unwrap_or_default()
    }
}

/// What a turn is about: commands to one instance, and the term in which their partition was ours when it began.
#[derive(Clone, Copy)]
struct Work<'a> {
    deliveries: &'a [Delivery],
    attempt: u32,
    partition: Partition,
    term: u64,
}

impl Conductor {
    pub(crate) fn new(
        context: Context,
        clock: Arc<dyn Clock>,
        producer: Arc<dyn Producer>,
        cache: NonZeroUsize,
        steps: usize,
    ) -> Self {
        let workflow = context.definition.name().into();
        Self(Arc::new(Inner {
            context,
            workflow,
            clock,
            producer,
            live: Mutex::new(Kept { instances: LruCache::new(cache), terms: HashMap::new(), suspects: HashSet::new() }),
            waiters: Mutex::new(LruCache::new(WAITED_FOR)),
            steps: Arc::new(Semaphore::new(steps)),
        }))
    }

    fn live(&self) -> MutexGuard<'_, Kept> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiters(&self) -> MutexGuard<'_, LruCache<InstanceKey, (Partition, Vec<ReplyTo>)>> {
        self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn that commands to one instance ask for.
    async fn turn(&self, key: &InstanceKey, deliveries: &[Delivery], attempt: u32) -> Outcome {
        let partition = deliveries.first().map(|delivery| delivery.partition).unwrap_or_default();
        let (cached, term) = {
            let mut kept = self.live();
            (kept.instances.pop(key).map(|(_, live)| live), kept.term(partition))
        };
        let work = Work { deliveries, attempt, partition, term };
        let mut turn =
            Turn::new(&self.0.context, key, self.0.clock.now(), cached.map_or(Instance::Unknown, Instance::Live));
        for _ in 0..CONFLICTS {
            if let Err(refused) = self.advance(&mut turn, work).await {
                return refused;
            }
            match self.commit(key, work, turn).await {
                Ok(outcome) => return outcome,
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) if is_unsendable(&error) => {
                    let reason = format!(
                        "workflow {key} stopped: the broker refuses what it sends: {error}\n  repair the code; the instance \
                         goes on from its history when a worker with it starts"
                    );
                    return self.stop(key, work, reason).await;
                }
                Err(error) => return failed(key, &error),
            }
            turn = Turn::new(&self.0.context, key, self.0.clock.now(), Instance::Unknown).certain();
        }
        Outcome::retry(format!("{key} is changed by another worker at the same time"))
    }

    async fn advance(&self, turn: &mut Turn<'_>, work: Work<'_>) -> Result<(), Outcome> {
        for delivery in work.deliveries {
            let command = match wire::decode::<Command>(&delivery.message.payload) {
                Ok(command) => command,
                Err(error) => {
                    return Err(Outcome::dead(format!("not a command to a workflow of this version: {error}")));
                }
            };
            if let Err(abandoned) = turn.handle(command, delivery.message.id.as_str()).await {
                return Err(self.give_up(turn.key(), work, abandoned).await);
            }
        }
        Ok(())
    }

    async fn commit(&self, key: &InstanceKey, work: Work<'_>, mut turn: Turn<'_>) -> partitura_broker::Result<Outcome> {
        let settle: Vec<AckToken> = work.deliveries.iter().map(|delivery| delivery.token).collect();
        let unit = match turn.finish(settle.clone()).await? {
            // What was asked behind a command that was refused is not answered from before it: another may have it.
            None if self.live().suspects.contains(&work.partition) => Some(Unit { settle, ..Unit::default() }),
            unit => unit,
        };
        let settlement = match unit {
            Some(unit) => self.0.context.journal.commit(unit).await.inspect_err(|error| self.suspect(work, error))?,
            None => Settlement::Due,
        };
        self.committed(key, work, turn).await;
        Ok(match settlement {
            Settlement::Done => Outcome::Settled,
            Settlement::Due => Outcome::Done,
        })
    }

    fn suspect(&self, work: Work<'_>, error: &partitura_broker::Error) {
        let mut kept = self.live();
        if error.kind() == ErrorKind::Fenced && kept.term(work.partition) == work.term {
            kept.suspects.insert(work.partition);
        }
    }

    /// All that follows a turn and need not be durable.
    async fn committed(&self, key: &InstanceKey, Work { partition, term, .. }: Work<'_>, turn: Turn<'_>) {
        let Turn { instance, mut replies, steps, unneeded, waiters, ended, stops, replaced, .. } = turn;
        if let Instance::Live(live) = instance
            && !live.summary.status.is_closed()
        {
            let mut kept = self.live();
            if kept.term(partition) == term {
                kept.instances.push(key.clone(), (partition, live));
            }
        }
        for (outcome, waiters) in replaced {
            self.remember(key, partition, waiters, Some(&outcome), &mut replies);
        }
        self.remember(key, partition, waiters, ended.as_ref(), &mut replies);
        if let Some(reason) = stops {
            let waiting = self.waiters().pop(key).map(|(_, waiting)| waiting).unwrap_or_default();
            replies.extend(waiting.into_iter().map(|to| (to, ReplyBody::Stopped { reason: reason.clone() })));
        }
        self.send(key, replies).await;
        self.0.context.unneeded.cancel(unneeded);
        for (run, step) in steps {
            self.run_step(key, run, step);
        }
    }

    async fn send(&self, key: &InstanceKey, replies: Vec<(ReplyTo, ReplyBody)>) {
        if replies.is_empty() {
            return;
        }
        let (topic, limit) = (&self.0.context.topics.commands, self.0.context.directory.payload_limit());
        let replies = replies.into_iter().map(|(to, body)| wire::reply(topic, &to, body, limit)).collect();
        if let Err(error) = self.0.producer.reply(replies).await {
            // Whoever waits asks again.
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

    /// Runs an inline step, and sends its result as a message of the instance's own stream.
    fn run_step(&self, key: &InstanceKey, run: String, step: Step) {
        let running = (run, step.seq);
        if !self.0.context.running.begin(running.clone()) {
            return;
        }
        let (conductor, key) = (self.clone(), key.clone());
        tokio::spawn(async move {
            if let Ok(_permit) = conductor.0.steps.clone().acquire_owned().await {
                let outcome = match step.future.await {
                    Ok(result) => Ended::Ok(result),
                    Err(failure) => Ended::Err(failure),
                };
                conductor.step_done(&key, &running.0, step.seq, outcome).await;
            }
            conductor.0.context.running.end(&running);
        });
    }

    /// Sends the result of a step until it is taken. Should this process die first, the step runs again: see
    /// [`steps`](crate::steps).
    async fn step_done(&self, key: &InstanceKey, run: &str, seq: u32, outcome: Ended) {
        let message = |outcome| {
            let done = Command::StepDone { run: run.to_owned(), seq, outcome };
            wire::command(&self.0.context.topics.commands, &key.id, format!("{run}.{seq}.r"), &done)
        };
        let mut done = message(outcome);
        let mut told = false;
        let mut wait = Duration::from_millis(100);
        while let Some(Err(error)) = self.0.producer.publish(vec![done.clone()]).await.pop() {
            if is_unsendable(&error) && !told {
                // It would be no other if the step ran again: the workflow is told that instead.
                let problem = format!("the step ended, but the broker refuses what it returned: {error}");
                done = message(Ended::Err(Failure::new(FailureKind::Unknown, problem)));
                told = true;
                continue;
            }
            if !error.is_retryable() {
                tracing::error!(instance = %key, seq, %error, "the result of a step is lost; the step runs again");
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(10));
        }
    }

    async fn give_up(&self, key: &InstanceKey, work: Work<'_>, abandoned: Abandoned) -> Outcome {
        let [delivery] = work.deliveries else {
            // One by one, so that the command it is about is known.
            return Outcome::retry("to be taken one by one");
        };
        let stop = match abandoned {
            Abandoned::Failed(error) => {
                let command = wire::decode::<Command>(&delivery.message.payload).ok();
                return match command.as_ref().and_then(Command::asker) {
                    // What changes something waits until it can be done; who only asks is told.
                    Some(asker) if !error.is_retryable() => {
                        self.send(key, vec![(asker.clone(), ReplyBody::Refused(error.to_string()))]).await;
                        Outcome::Done
                    }
                    _ => failed(key, &error),
                };
            }
            Abandoned::Refused(problem) => return Outcome::dead(problem),
            Abandoned::Stopped(stop) => stop,
        };
        let panicked = matches!(stop.reason, StopReason::Panicked { .. });
        if panicked && work.attempt < PANICS {
            tracing::warn!(instance = %key, attempt = work.attempt, "{stop}");
            return Outcome::retry(stop.to_string());
        }
        self.stop(key, work, stop.to_string()).await
    }

    /// Keeps the input, and notes that the code cannot go on.
    async fn stop(&self, key: &InstanceKey, work: Work<'_>, reason: String) -> Outcome {
        let [delivery] = work.deliveries else { return Outcome::retry("to be taken one by one") };
        let Ok(command) = wire::decode::<Command>(&delivery.message.payload) else {
            return Outcome::dead("not a command to a workflow of this version");
        };
        tracing::error!(instance = %key, "{reason}");
        let input = (command, delivery.message.id.as_str());
        match Turn::stopped(&self.0.context, key, self.0.clock.now(), input, reason).await {
            Ok(turn) => self.commit(key, work, turn).await.unwrap_or_else(|error| failed(key, &error)),
            Err(Abandoned::Failed(error)) => failed(key, &error),
            Err(Abandoned::Refused(problem)) => Outcome::dead(problem),
            Err(Abandoned::Stopped(stop)) => Outcome::retry(stop.to_string()),
        }
    }
}

impl Handler for Conductor {
    async fn handle(&self, batch: Batch) -> Outcome {
        let key =
            match batch.deliveries().first().map(|Delivery { message, .. }| InstanceKey::of(&self.0.workflow, message))
            {
                Some(Ok(key)) => key,
                Some(Err(problem)) => return Outcome::dead(problem),
                None => return Outcome::Done,
            };
        self.turn(&key, batch.deliveries(), batch.attempt()).await
    }

    /// Another worker goes on with these instances; what is kept of them here gets stale.
    fn released(&self, partitions: &[Partition]) {
        let mut kept = self.live();
        for partition in partitions {
            *kept.terms.entry(*partition).or_default() += 1;
            kept.suspects.remove(partition);
        }
        forget(&mut kept.instances, partitions);
        drop(kept);
        forget(&mut self.waiters(), partitions);
    }
}

/// Removes what belongs to these partitions.
fn forget<T>(kept: &mut LruCache<InstanceKey, (Partition, T)>, partitions: &[Partition]) {
    let of =
        |(key, (partition, _)): (&InstanceKey, &(Partition, T))| partitions.contains(partition).then(|| key.clone());
    let gone: Vec<InstanceKey> = kept.iter().filter_map(of).collect();
    for key in gone {
        kept.pop(&key);
    }
}

fn failed(key: &InstanceKey, error: &partitura_broker::Error) -> Outcome {
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
