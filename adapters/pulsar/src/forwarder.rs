//! Forwarding: what is due is taken out of the timers of a topic and published where it belongs.
//!
//! One process does it at a time, by one clock: so messages of a key are forwarded in the order in which they fall due.
//! Who may is decided by an exclusive subscription that receives nothing; the timers themselves come by a shared one, since
//! Pulsar delays on no other. Each destination is published to on its own: one that refuses is tried again after a backoff
//! and keeps nobody else waiting. A timer is acknowledged when its own message is confirmed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::{Backoff, Claim, Claimed};
use partitura_broker::{
    Clock, ErrorKind, Message, Partition, Producer, ProducerOptions, Receipt, Result, Timestamp, Topic, TopicName,
    telemetry,
};
use pulsar::proto::command_subscribe::SubType;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::claim::{PulsarClaim, Wanted};
use crate::core::{Core, SYSTEM};
use crate::delay::{self, LEAD};
use crate::destination::{Destination, Place, Timers};
use crate::error;
use crate::names::{FORWARDING, TIMERS};
use crate::producer::{self, PulsarProducer};
use crate::session::command::Subscribe;
use crate::session::{Incoming, Purpose, Registered};
use crate::settlement::Handle;
use crate::wire::Outbound;

const OPERATION: &str = "forward";
/// How many timers a forwarder holds.
const AHEAD: usize = 4_096;
/// About how many bytes of them.
const BYTES: usize = 16 << 20;
/// How many messages are published to one destination at once.
const AT_ONCE: usize = 500;
/// How soon a process that waits for its turn asks again.
const TURN: Duration = Duration::from_secs(1);
/// How soon is begun anew after a failure.
const AGAIN: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
/// A new forwarder waits until no timer has arrived for so long, and no longer than `GATHER`: what fell due before it came is
/// then forwarded in the order of the times.
const QUIET: Duration = Duration::from_millis(100);
const GATHER: Duration = Duration::from_secs(1);
/// When a message is tried again that alone is refused, and what a destination has too much of.
const LATER: Duration = Duration::from_secs(60);

/// Forwards until the broker is closed, beginning anew whenever something fails: what is unsettled comes again.
pub(crate) async fn run(core: Arc<Core>, topic: TopicName) {
    let mut attempt = 0;
    loop {
        let failure = match Term::begin(&core, &topic).await {
            Ok(term) => {
                attempt = 0;
                match term.forward().await {
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
            sleep(TURN).await;
            continue;
        }
        attempt += 1;
        telemetry::reconnecting(SYSTEM, &failure, attempt);
        sleep(AGAIN.delay(attempt, u64::MAX)).await;
    }
}

/// The right to forward the timers of a topic, for as long as it is kept.
struct Turn {
    _registered: Registered,
    told: mpsc::UnboundedReceiver<(usize, Incoming)>,
}

impl Turn {
    /// [`Busy`](ErrorKind::Busy) while another process has it.
    async fn take(core: &Core, topic: &TopicName) -> Result<Self> {
        let name = core.catalog.namespace().timers(topic).partition(Partition(0));
        let connection = core.cluster.serving(OPERATION, &name, Purpose::Consume).await?;
        let subscribe = Subscribe {
            topic: name.to_string(),
            subscription: FORWARDING.to_owned(),
            kind: SubType::Exclusive,
            durable: false,
            create: false,
        };
        let (to, told) = mpsc::unbounded_channel();
        let registered = connection.subscribe(OPERATION, &subscribe, 0, to).await?;
        Ok(Self { _registered: registered, told })
    }

    /// Returns when it is lost. Nothing else is ever told: the broker was not allowed to send anything.
    async fn lost(&mut self) {
        while let Some((_, Incoming::Entry(..))) = self.told.recv().await {}
    }
}

/// What came of timers that were published to their destination, or written again.
struct Done {
    /// `None` where they were written again.
    destination: Option<Partition>,
    timers: Vec<(Place, Claimed<Handle>)>,
    results: Vec<Result<Receipt>>,
}

/// One process's time as the forwarder of a topic.
struct Term {
    core: Arc<Core>,
    topic: Topic,
    producer: Arc<PulsarProducer>,
    turn: Turn,
    claim: PulsarClaim,
    /// Delivered, and not due yet.
    timers: Timers,
    destinations: BTreeMap<Partition, Destination>,
    working: JoinSet<Done>,
}

impl Term {
    async fn begin(core: &Arc<Core>, topic: &TopicName) -> Result<Self> {
        let turn = Turn::take(core, topic).await?;
        let partition = Partition(0);
        let timers = core.catalog.namespace().timers(topic).partition(partition);
        let wanted = Wanted {
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
            topic: core.catalog.find(OPERATION, topic).await?,
            producer: Arc::new(PulsarProducer::new(core.clone(), &ProducerOptions::default())),
            turn,
            claim: PulsarClaim::new(core, wanted).await?,
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
                () = self.turn.lost() => return Err(error::disconnected(OPERATION)),
                // The clock is looked at again: it may have been set.
                () = sleep(wait) => {}
            }
        }
    }

    fn hold(&mut self, arrived: Vec<Claimed<Handle>>) {
        let now = self.core.clock.now();
        for claimed in arrived {
            let due = claimed.message.not_before.unwrap_or(now);
            // The broker was asked for less than the whole delay: it is written again. Not at once, so that a broker whose
            // delays are turned off is not kept busy with it.
            let at = if is_far(due, now) { now + LEAD } else { due };
            self.timers.insert((at, claimed.handle.position), claimed);
        }
    }

    /// Gives what is due to its destination, and writes again what is far from due or what a destination has too much of.
    fn sort_out(&mut self) {
        let now = self.core.clock.now();
        let mut again = Vec::new();
        while let Some(first) = self.timers.first_entry()
            && first.key().0 <= now
        {
            let (place, claimed) = first.remove_entry();
            match claimed.message.not_before {
                Some(due) if is_far(due, now) => again.push((place, claimed)),
                _ => {
                    let to = producer::partition(&self.topic, &claimed.message);
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

    fn write_again(&mut self, timers: Vec<(Place, Claimed<Handle>)>, now: Timestamp) {
        let outbound = |message: Message| match message.not_before {
            Some(due) if is_far(due, now) => delay::timer(message, due, now),
            _ => Outbound::new(message).deliver_at(now + LATER),
        };
        let messages = timers.iter().map(|(_, claimed)| outbound(claimed.message.clone())).collect();
        let (core, topic) = (self.core.clone(), self.topic.name.clone());
        self.working.spawn(async move {
            let results = delay::write_again(&core, &topic, messages).await;
            Done { destination: None, timers, results }
        });
    }

    /// Begins to publish what waits for a destination that is ready for it.
    fn publish(&mut self) {
        for (partition, destination) in &mut self.destinations {
            let timers = destination.take(AT_ONCE);
            if timers.is_empty() {
                continue;
            }
            let messages = timers.iter().map(|(_, claimed)| claimed.message.clone()).collect();
            let (producer, destination) = (self.producer.clone(), Some(*partition));
            self.working.spawn(async move {
                let results = producer.publish(messages).await;
                Done { destination, timers, results }
            });
        }
    }

    /// Settles what was confirmed; the rest is tried again.
    fn finish(&mut self, done: Done) {
        let Done { destination, timers, results } = done;
        let later = self.core.clock.now() + LATER;
        let stored = results.iter().any(Result::is_ok);
        let (mut settled, mut failure) = (Vec::new(), None);
        for (((at, position), claimed), result) in timers.into_iter().zip(results) {
            match (result, destination.and_then(|partition| self.destinations.get_mut(&partition))) {
                (Ok(_), _) => settled.push(claimed.handle),
                // It alone is refused, or it could not be written again.
                (Err(error), Some(_)) if stored && !error.is_retryable() => {
                    tracing::warn!(target: telemetry::TARGET, topic = %self.topic.name, id = %claimed.message.id, %error,
                        "a delayed message is refused where it is to go; it is tried again every minute");
                    self.timers.insert((later, position), claimed);
                }
                (Err(_), None) => drop(self.timers.insert((later, position), claimed)),
                (Err(error), Some(destination)) => {
                    destination.waiting.insert((at, position), claimed);
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

    /// How long there is nothing to do.
    fn wait(&self) -> Duration {
        let now = self.core.clock.now();
        let due = self.timers.keys().next().map(|(at, _)| at.since(now));
        let retry = self.destinations.values().filter_map(Destination::retry_in).min();
        due.into_iter().chain(retry).min().unwrap_or(LEAD).min(LEAD)
    }
}

/// Whether the broker was asked for less than the whole delay.
fn is_far(due: Timestamp, now: Timestamp) -> bool {
    due.since(now) > LEAD * 2
}
