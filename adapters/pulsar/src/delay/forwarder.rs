//! Forwarding: messages that are due are taken out of the timers of a topic and published to their partitions.
//!
//! One process does it at a time, by one clock, so that messages of a key are forwarded in the order in which they
//! fall due. An exclusive subscription that receives nothing is the lock. The timers themselves come by a shared
//! subscription, since Pulsar delays on no other. Each destination is published to on its own: one that refuses is
//! tried again after a backoff, and holds up no other. A timer is acknowledged when its own message is confirmed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::{Backoff, Claim, Claimed};
use partitura_broker::{
    Clock, ErrorKind, Message, Partition, ProducerOptions, Receipt, Result, Timestamp, Topic, TopicName, telemetry,
};
use pulsar::proto::command_subscribe::SubType;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::destination::{Destination, Place, Timer, Timers};
use super::timer::{LEAD, timer};
use crate::claim::{ClaimOptions, Handle, PulsarClaim};
use crate::client::command::Subscribe;
use crate::client::{ConsumerInput, Incoming, Purpose, Registered};
use crate::core::{Core, SYSTEM};
use crate::error;
use crate::names::{FORWARDING, TIMERS};
use crate::producer::{Publication, PulsarProducer, partition_for};
use crate::wire::Outbound;

const OPERATION: &str = "forward";
/// The number of timers that a forwarder holds.
const AHEAD: usize = 4_096;
/// The bytes that these may have, roughly.
const BYTES: usize = 16 << 20;
/// The number of messages that are published to one destination at once.
const AT_ONCE: usize = 500;
/// The wait before a process that found the lock taken tries again.
const LOCK_AGAIN: Duration = Duration::from_secs(1);
/// The wait before forwarding begins anew after a failure.
const AGAIN: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
/// A new forwarder waits until no timer has arrived for this long, and no longer than `GATHER`. So timers that fell due
/// before are forwarded in the order of their times.
const QUIET: Duration = Duration::from_millis(100);
const GATHER: Duration = Duration::from_secs(1);
/// The wait before a message is tried again that alone is refused, or that was too much for its destination.
const LATER: Duration = Duration::from_secs(60);
/// The time in which the broker confirms timers that are written again.
const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

/// Forwards until the broker is closed. Begins anew after each failure, and then unsettled timers come again.
pub(crate) async fn run(core: Arc<Core>, topic: TopicName) {
    let mut attempt = 0;
    loop {
        let failure = match Forwarder::begin(&core, &topic).await {
            Ok(forwarder) => {
                attempt = 0;
                match forwarder.forward().await {
                    Ok(never) => match never {},
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if failure.kind() == ErrorKind::Closed || core.cluster.check(OPERATION).is_err() {
            return;
        }
        if failure.kind() == ErrorKind::Busy {
            sleep(LOCK_AGAIN).await;
            continue;
        }
        attempt += 1;
        telemetry::reconnecting(SYSTEM, &failure, attempt);
        sleep(AGAIN.delay(attempt, u64::MAX)).await;
    }
}

/// The right to forward the timers of a topic, for as long as it is kept.
struct Lock {
    _registered: Registered,
    incoming: mpsc::UnboundedReceiver<ConsumerInput>,
}

impl Lock {
    /// [`Busy`](ErrorKind::Busy) while another process has it.
    async fn take(core: &Core, topic: &TopicName) -> Result<Self> {
        let name = core.topics.namespace().timers(topic).partition(Partition(0));
        let connection = core.cluster.serving(OPERATION, &name, Purpose::Consume).await?;
        let subscribe = Subscribe {
            topic: name.to_string(),
            subscription: FORWARDING.to_owned(),
            kind: SubType::Exclusive,
            durable: false,
            create: false,
        };
        let (to, incoming) = mpsc::unbounded_channel();
        let registered = connection.subscribe(OPERATION, &subscribe, 0, to).await?;
        Ok(Self { _registered: registered, incoming })
    }

    /// Returns when it is lost. Nothing else comes, since the broker was not permitted to send anything.
    async fn lost(&mut self) {
        while let Some(ConsumerInput { incoming: Incoming::Entry(..), .. }) = self.incoming.recv().await {}
    }
}

/// The outcome of timers that were published to their destination, or written again.
struct Done {
    /// `None` if they were written again.
    destination: Option<Partition>,
    timers: Vec<Timer>,
    results: Vec<Result<Receipt>>,
}

/// Forwards the timers of a topic while this process has the lock.
struct Forwarder {
    core: Arc<Core>,
    topic: Topic,
    producer: Arc<PulsarProducer>,
    lock: Lock,
    claim: PulsarClaim,
    /// The timers that were delivered and are not due yet.
    timers: Timers,
    destinations: BTreeMap<Partition, Destination>,
    working: JoinSet<Done>,
}

impl Forwarder {
    async fn begin(core: &Arc<Core>, topic: &TopicName) -> Result<Self> {
        let lock = Lock::take(core, topic).await?;
        let partition = Partition(0);
        let timers = core.topics.namespace().timers(topic).partition(partition);
        let options = ClaimOptions {
            topic,
            partitions: vec![(partition, timers)],
            subscription: TIMERS.to_owned(),
            kind: SubType::Shared,
            durable: true,
            ahead: AHEAD,
            bytes: BYTES,
        };
        Ok(Self {
            core: core.clone(),
            topic: core.topics.find(OPERATION, topic).await?,
            producer: Arc::new(PulsarProducer::new(core.clone(), &ProducerOptions::default())),
            lock,
            claim: PulsarClaim::new(core, options).await?,
            timers: Timers::new(),
            destinations: BTreeMap::new(),
            working: JoinSet::new(),
        })
    }

    async fn forward(mut self) -> Result<Infallible> {
        let gathered = Instant::now() + GATHER;
        while self.timers.len() < AHEAD / 2
            && Instant::now() < gathered
            && let Ok(arrived) = timeout(QUIET, self.claim.next()).await
        {
            self.hold(arrived?);
        }
        loop {
            self.sort_out();
            self.publish();
            let wait = self.wait();
            tokio::select! {
                arrived = self.claim.next() => self.hold(arrived?),
                Some(done) = self.working.join_next() => self.finish(done.map_err(error::stopped)?),
                () = self.lock.lost() => return Err(error::disconnected(OPERATION)),
                // The clock is read again, since it may have been set.
                () = sleep(wait) => {}
            }
        }
    }

    fn hold(&mut self, arrived: Vec<Claimed<Handle>>) {
        let now = self.core.clock.now();
        for claimed in arrived {
            let due = claimed.message.not_before.unwrap_or(now);
            // A timer for which the broker was asked for less than the whole delay is written again. Not at once, so
            // that a broker whose delays are turned off is not kept busy with it.
            let at = if is_far(due, now) { now + LEAD } else { due };
            self.timers.insert(Place { at, position: claimed.handle.position }, claimed);
        }
    }

    /// Gives timers that are due to their destinations. Writes those again that are far from due, and those that are
    /// too many for their destination.
    fn sort_out(&mut self) {
        let now = self.core.clock.now();
        let mut again = Vec::new();
        while let Some(first) = self.timers.first_entry()
            && first.key().at <= now
        {
            let (place, claimed) = first.remove_entry();
            match claimed.message.not_before {
                Some(due) if is_far(due, now) => again.push(Timer { place, claimed }),
                _ => {
                    let topic = self.core.topics.known(&self.topic.name);
                    let to = partition_for(topic.as_ref().unwrap_or(&self.topic), &claimed.message);
                    self.destinations.entry(to).or_default().waiting.insert(place, claimed);
                }
            }
        }
        let stuck = self.destinations.values().filter(|destination| destination.is_stuck()).count();
        for destination in self.destinations.values_mut().filter(|destination| destination.is_stuck()) {
            again.extend(destination.surplus(AHEAD / 2 / stuck));
        }
        if !again.is_empty() {
            self.write_again(again, now);
        }
    }

    fn write_again(&mut self, timers: Vec<Timer>, now: Timestamp) {
        let outbound = |message: Message| match message.not_before {
            Some(due) if is_far(due, now) => timer(message, due, now),
            _ => Outbound::new(message).deliver_at(now + LATER),
        };
        let written =
            |Claimed { message, redelivered, .. }: &Claimed<Handle>| outbound(message.clone()).repeated(*redelivered);
        let messages = timers.iter().map(|timer| written(&timer.claimed)).collect();
        let publisher = self.core.publisher.clone();
        let to = self.core.topics.namespace().timers(&self.topic.name).partition(Partition(0));
        self.working.spawn(async move {
            let results = publisher.publish("write a timer again", to, messages, CONFIRM_WITHIN).await;
            Done { destination: None, timers, results }
        });
    }

    /// Begins to publish to each destination that is ready.
    fn publish(&mut self) {
        for (partition, destination) in &mut self.destinations {
            let timers = destination.take(AT_ONCE);
            if timers.is_empty() {
                continue;
            }
            // A timer that comes again may have been forwarded before it was settled.
            let publication = |Claimed { message, redelivered, .. }: &Claimed<Handle>| Publication {
                message: message.clone(),
                is_repeated: *redelivered,
            };
            let messages = timers.iter().map(|timer| publication(&timer.claimed)).collect();
            let (producer, destination) = (self.producer.clone(), Some(*partition));
            self.working.spawn(async move {
                let results = producer.send(messages).await;
                Done { destination, timers, results }
            });
        }
    }

    /// Settles the confirmed timers. The others are tried again.
    fn finish(&mut self, done: Done) {
        let Done { destination, timers, results } = done;
        let later = self.core.clock.now() + LATER;
        let stored = results.iter().any(Result::is_ok);
        let (mut settled, mut failure) = (Vec::new(), None);
        for (Timer { place, mut claimed }, result) in timers.into_iter().zip(results) {
            // Without a confirm it may have been stored.
            claimed.redelivered |= result.is_err();
            match (result, destination.and_then(|partition| self.destinations.get_mut(&partition))) {
                (Ok(_), _) => settled.push(claimed.handle),
                // This one alone is refused.
                (Err(error), Some(_)) if stored && !error.is_retryable() => {
                    tracing::warn!(target: telemetry::TARGET, topic = %self.topic.name, id = %claimed.message.id, %error,
                        "a partition refuses a delayed message; it is tried again every minute");
                    self.timers.insert(Place { at: later, ..place }, claimed);
                }
                (Err(_), None) => drop(self.timers.insert(Place { at: later, ..place }, claimed)),
                (Err(error), Some(destination)) => {
                    destination.waiting.insert(place, claimed);
                    failure = failure.or(Some(error));
                }
            }
        }
        self.claim.settle(settled);
        if let Some(partition) = destination
            && let Some(destination) = self.destinations.get_mut(&partition)
        {
            destination.finished(failure.as_ref(), &self.topic.name, partition);
        }
    }

    /// The time until there is something to do.
    fn wait(&self) -> Duration {
        let now = self.core.clock.now();
        let due = self.timers.keys().next().map(|place| place.at.since(now));
        let retry = self.destinations.values().filter_map(Destination::retry_in).min();
        due.into_iter().chain(retry).min().unwrap_or(LEAD).min(LEAD)
    }
}

/// Whether the broker was asked for less than the whole delay of a message.
fn is_far(due: Timestamp, now: Timestamp) -> bool {
    due.since(now) > LEAD * 2
}
