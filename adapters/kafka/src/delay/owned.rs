//! Forwards the delayed messages of queues, in the partitions that this process owns.
//!
//! A queue has one subscription, so each of its partitions has one owner, and the same process forwards its delayed
//! messages. It needs no group for them: one client reads all of these partitions of a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{ErrorKind, Result, TopicName};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use super::forwarding::{COMMIT_EVERY, Forwarding, REQUEST_TIMEOUT, TICK};
use super::index::BACKOFF;
use super::leases::{Leases, OwnedPartition, Signal};
use super::memory::Memory;
use crate::callbacks::{Callbacks, only_assigned};
use crate::core::Core;
use crate::stop::Stop;
use crate::{error, names};

/// The consumer group in which offsets are committed. It has no members.
const GROUP: &str = "partitura-timers";
/// The largest number of records of a partition, and of signals, that are taken up between two looks at the clock.
const BATCH: usize = 1_000;

/// The needs of a forwarder that is started, and started again after a failure.
pub(super) struct Owner {
    pub(super) core: Weak<Core>,
    pub(super) runtime: Handle,
    pub(super) memory: Memory,
    pub(super) leases: Arc<Leases>,
    pub(super) signals: mpsc::Receiver<Signal>,
    pub(super) sender: mpsc::Sender<Signal>,
}

/// Forwards the delayed messages of all partitions that are held, until it fails.
pub(super) struct OwnedForwarding<'o> {
    owner: &'o Owner,
    consumer: Arc<BaseConsumer<Callbacks>>,
    topics: BTreeMap<TopicName, Forwarding>,
    queues: BTreeMap<OwnedPartition, PartitionQueue<Callbacks>>,
    /// The time at which the partitions that are held are looked at again.
    follow_next: Instant,
    failures: u32,
    commit_next: Instant,
}

impl<'o> OwnedForwarding<'o> {
    pub(super) fn start(owner: &'o Owner) -> Result<Self> {
        let core = owner.core.upgrade().ok_or_else(|| error::closed("subscribe"))?;
        let mut config = core.target().reader_config();
        config.set("group.id", GROUP).set("enable.partition.eof", "true");
        // Of each partition, since each has a queue of its own.
        config.set("queued.max.messages.kbytes", "4096");
        let consumer = BaseConsumer::from_config_and_context(&config, Callbacks::default());
        let consumer = Arc::new(consumer.map_err(|source| error::error("subscribe", source))?);
        // It is no member of the group, so that nobody waits for its answers.
        consumer.context().close();
        let (topics, queues) = Default::default();
        let (follow_next, commit_next) = (Instant::now(), Instant::now() + COMMIT_EVERY);
        Ok(Self { owner, consumer, topics, queues, follow_next, failures: 0, commit_next })
    }

    /// Works until it is stopped.
    pub(super) fn run(mut self, stop: &Arc<Stop>) -> Result<()> {
        while !stop.is_stopped() {
            let Some(core) = self.owner.core.upgrade().filter(|core| !core.is_closed()) else { break };
            self.follow(&core);
            let (now, producer) = (core.now().as_millis(), core.client.producer()?);
            for forwarding in self.topics.values_mut() {
                forwarding.forward(&core, stop, &producer, now)?;
            }
            drop(core);
            self.commit();
            self.wait(now)?;
        }
        Ok(())
    }

    /// Gives back the partitions that are no longer held, and takes over those that are.
    fn follow(&mut self, core: &Core) {
        let outdated = self.topics.values_mut().filter_map(|topic| topic.is_outdated().then(|| topic.topic.clone()));
        let outdated: BTreeSet<TopicName> = outdated.collect();
        if outdated.is_empty() && Instant::now() < self.follow_next {
            return;
        }
        self.follow_next = Instant::now() + COMMIT_EVERY;
        let held = self.owner.leases.held();
        let is_over = |owned: &&OwnedPartition| !held.contains(*owned) || outdated.contains(&owned.topic);
        let over: Vec<OwnedPartition> = self.queues.keys().filter(is_over).cloned().collect();
        self.give_back(&over);
        let added: Vec<OwnedPartition> = held.into_iter().filter(|owned| !self.queues.contains_key(owned)).collect();
        if added.is_empty() {
            return;
        }
        match self.take_over(core, &added) {
            Ok(()) => self.failures = 0,
            Err(error) => {
                self.failures += 1;
                self.follow_next = Instant::now() + BACKOFF.delay(self.failures, u64::MAX);
                if self.failures == 1 {
                    tracing::warn!(target: TARGET, %error, "retrying to take over delayed messages");
                }
                self.give_back(&added);
            }
        }
    }

    fn take_over(&mut self, core: &Core, added: &[OwnedPartition]) -> KafkaResult<()> {
        let topics: BTreeSet<&TopicName> = added.iter().map(|owned| &owned.topic).collect();
        let watched: Vec<_> = topics.iter().map(|topic| core.topics.watch(&names::timers(topic))).collect();
        self.owner.runtime.block_on(core.topics.look_at_all(&watched));
        for (topic, watched) in topics.into_iter().zip(&watched) {
            let forwarding = self.topics.entry(topic.clone());
            forwarding.or_insert_with(|| Forwarding::new(topic, watched, &self.owner.memory));
        }
        let committed = self.consumer.committed_offsets(self.list(added), REQUEST_TIMEOUT)?;
        let (mut start, now) = (TopicPartitionList::new(), core.now().as_millis());
        for owned in added {
            let Some(forwarding) = self.topics.get_mut(&owned.topic) else { continue };
            let number = names::partition(owned.partition);
            let place = committed.find_partition(&forwarding.timers, number);
            let from = Offset::Offset(forwarding.begin(owned.partition, place, now));
            start.add_partition_offset(&forwarding.timers, number, from)?;
            let queue = self.consumer.split_partition_queue(&forwarding.timers, number);
            let mut queue = queue.ok_or_else(|| KafkaError::Subscription(forwarding.timers.clone()))?;
            let (sender, filled) = (self.owner.sender.clone(), owned.clone());
            queue.set_nonempty_callback(move || drop(sender.send(Signal::Filled(filled.clone()))));
            // Something of an earlier time may be in the queue, so that it does not become filled.
            let _sent = self.owner.sender.send(Signal::Filled(owned.clone()));
            self.queues.insert(owned.clone(), queue);
        }
        self.consumer.incremental_assign(&start)
    }

    fn give_back(&mut self, over: &[OwnedPartition]) {
        if over.is_empty() {
            return;
        }
        let mut ack_floors = TopicPartitionList::new();
        for OwnedPartition { topic, partition } in over {
            if let Some(forwarding) = self.topics.get_mut(topic) {
                forwarding.ack_floors(|owned| owned == *partition, &mut ack_floors);
                forwarding.end(*partition);
            }
        }
        self.send(&ack_floors);
        let list = only_assigned(&self.consumer, &self.list(over));
        if list.count() > 0
            && let Err(error) = self.consumer.incremental_unassign(&list)
        {
            tracing::debug!(target: TARGET, %error, "giving delayed messages back");
        }
        over.iter().for_each(|owned| drop(self.queues.remove(owned)));
        self.topics.retain(|topic, _| self.queues.keys().any(|owned| owned.topic == *topic));
    }

    fn list(&self, partitions: &[OwnedPartition]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for OwnedPartition { topic, partition } in partitions {
            list.add_partition(&names::timers(topic), names::partition(*partition));
        }
        list
    }

    /// Reads until a message may be due.
    fn wait(&mut self, now: u64) -> Result<()> {
        // The common queue has errors and logs.
        if let Some(Err(source)) = self.consumer.poll(Duration::ZERO) {
            failed(source)?;
        }
        let clock = Instant::now();
        let wait = self.topics.values().map(|topic| topic.wait(now, clock)).min().unwrap_or(TICK);
        let first = self.owner.signals.recv_timeout(wait).ok();
        let signals: Vec<Signal> = first.into_iter().chain(self.owner.signals.try_iter().take(BATCH)).collect();
        for signal in signals {
            match signal {
                Signal::Changed => self.follow_next = Instant::now(),
                Signal::Filled(owned) => self.read(&owned)?,
            }
        }
        Ok(())
    }

    /// Takes up the records of a partition.
    fn read(&mut self, owned: &OwnedPartition) -> Result<()> {
        let Some(forwarding) = self.topics.get_mut(&owned.topic) else { return Ok(()) };
        let Some(queue) = self.queues.get(owned) else { return Ok(()) };
        for _ in 0..BATCH {
            match queue.poll(Duration::ZERO) {
                Some(Ok(record)) => forwarding.take_up(&record),
                Some(Err(KafkaError::PartitionEOF(_))) => forwarding.complete(owned.partition),
                Some(Err(source)) => failed(source)?,
                None => return Ok(()),
            }
        }
        // There may be more. Other partitions come first.
        let _sent = self.owner.sender.send(Signal::Filled(owned.clone()));
        Ok(())
    }

    fn commit(&mut self) {
        if Instant::now() < self.commit_next {
            return;
        }
        self.commit_next = Instant::now() + COMMIT_EVERY;
        let mut ack_floors = TopicPartitionList::new();
        self.topics.values().for_each(|forwarding| forwarding.ack_floors(|_| true, &mut ack_floors));
        self.send(&ack_floors);
    }

    /// Commits without waiting. A place that is not committed makes the next owner read more.
    fn send(&self, ack_floors: &TopicPartitionList) {
        if ack_floors.count() > 0
            && let Err(error) = self.consumer.commit(ack_floors, CommitMode::Async)
        {
            tracing::debug!(target: TARGET, %error, "retrying later to commit ack floors");
        }
    }
}

/// Logs a failure of which librdkafka recovers by itself, and returns others.
fn failed(source: KafkaError) -> Result<()> {
    let fatal = matches!(source, KafkaError::MessageConsumptionFatal(_));
    let failure = error::error("consume", source);
    if fatal || failure.kind() == ErrorKind::Unauthorized {
        return Err(failure);
    }
    tracing::debug!(target: TARGET, error = %failure, "retrying to read delayed messages");
    Ok(())
}
