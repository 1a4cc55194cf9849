//! Forwards the delayed messages of a stream or of a shared topic.
//!
//! Its partitions have several owners, one for each subscription, or none. So a consumer group of its own gives each
//! of them to one process.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{ErrorKind, Result, TopicName};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};

use super::forwarding::{COMMIT_EVERY, Forwarding, REQUEST_TIMEOUT};
use super::memory::Memory;
use crate::callbacks::{Callbacks, Change, only_assigned};
use crate::core::Core;
use crate::stop::Stop;
use crate::watch::Watched;
use crate::{error, names};

/// The largest number of records that are read between two looks at the clock.
const BATCH: usize = 1_000;

/// Forwards the delayed messages of a topic, until it fails.
pub(super) struct GroupForwarding {
    core: Weak<Core>,
    consumer: BaseConsumer<Callbacks>,
    forwarding: Forwarding,
    commit_next: Instant,
}

impl GroupForwarding {
    pub(super) fn start(core: &Weak<Core>, topic: &TopicName, watched: &Arc<Watched>, memory: &Memory) -> Result<Self> {
        let strong = core.upgrade().ok_or_else(|| error::closed("subscribe"))?;
        let mut config = strong.target().consumer_config(&format!("partitura-timers.{topic}"), Duration::ZERO);
        config.set("enable.partition.eof", "true");
        // Brokers answer at once if there are records. A process may have hundreds of such requests waiting.
        config.set("fetch.wait.max.ms", "500");
        let failed = |source| error::error("subscribe", source).of(topic);
        let consumer = BaseConsumer::from_config_and_context(&config, Callbacks::default()).map_err(failed)?;
        let forwarding = Forwarding::new(topic, watched, memory);
        consumer.subscribe(&[&forwarding.timers]).map_err(failed)?;
        Ok(Self { core: core.clone(), consumer, forwarding, commit_next: Instant::now() + COMMIT_EVERY })
    }

    /// Works until it is stopped.
    pub(super) fn run(mut self, stop: &Arc<Stop>) -> Result<()> {
        let done = self.work(stop);
        // Otherwise librdkafka would wait for an answer to its last request.
        self.consumer.context().close();
        done
    }

    fn work(&mut self, stop: &Arc<Stop>) -> Result<()> {
        while !stop.is_stopped() {
            self.read()?;
            self.rebalance()?;
            let Some(core) = self.core.upgrade().filter(|core| !core.is_closed()) else { break };
            let (now, producer) = (core.now().as_millis(), core.client.producer()?);
            self.forwarding.forward(&core, stop, &producer, now)?;
            drop(core);
            self.commit();
            if self.forwarding.is_outdated() {
                let text = "the topic of delayed messages was created again and is read from its beginning";
                let error = partitura_broker::Error::new(ErrorKind::Disconnected, "consume", text);
                return Err(error.of(&self.forwarding.timers));
            }
        }
        Ok(())
    }

    /// Reads until a message may be due.
    fn read(&mut self) -> Result<()> {
        let now = self.core.upgrade().map_or(0, |core| core.now().as_millis());
        let mut wait = self.forwarding.wait(now, Instant::now());
        for _ in 0..BATCH {
            match self.consumer.poll(wait) {
                Some(Ok(record)) => self.forwarding.take_up(&record),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    u32::try_from(partition).into_iter().for_each(|partition| self.forwarding.complete(partition));
                }
                Some(Err(source)) => {
                    let fatal = matches!(source, KafkaError::MessageConsumptionFatal(_));
                    let failure = error::error("consume", source).of(&self.forwarding.topic);
                    if fatal || failure.kind() == ErrorKind::Unauthorized {
                        return Err(failure);
                    }
                    tracing::debug!(target: TARGET, error = %failure, "retrying to read delayed messages");
                }
                None => break,
            }
            wait = Duration::ZERO;
        }
        Ok(())
    }

    fn rebalance(&mut self) -> Result<()> {
        while let Some(change) = self.consumer.context().change() {
            let done = match change {
                Change::Assign(partitions) => self.assign(&partitions),
                Change::Revoke { partitions, lost } => self.revoke(&partitions, lost),
            };
            // The group waits for the answer. After a failure it gets it when this consumer leaves.
            done.map_err(|source| error::error("consume", source).of(&self.forwarding.topic))?;
        }
        Ok(())
    }

    fn assign(&mut self, partitions: &[u32]) -> KafkaResult<()> {
        let Some(now) = self.core.upgrade().map(|core| core.now().as_millis()) else { return Ok(()) };
        let mut start = TopicPartitionList::new();
        if !partitions.is_empty() {
            let committed = self.consumer.committed_offsets(self.list(partitions), REQUEST_TIMEOUT)?;
            for partition in partitions {
                let number = names::partition(*partition);
                let place = committed.find_partition(&self.forwarding.timers, number);
                let from = Offset::Offset(self.forwarding.begin(*partition, place, now));
                start.add_partition_offset(&self.forwarding.timers, number, from)?;
            }
        }
        self.consumer.incremental_assign(&start)
    }

    fn revoke(&mut self, partitions: &[u32], lost: bool) -> KafkaResult<()> {
        if !lost {
            let mut ack_floors = TopicPartitionList::new();
            self.forwarding.ack_floors(|partition| partitions.contains(&partition), &mut ack_floors);
            if let Err(error) = self.consumer.commit(&ack_floors, CommitMode::Sync) {
                let topic = &self.forwarding.topic;
                tracing::debug!(target: TARGET, %error, %topic, "committing ack floors; the next owner reads more");
            }
        }
        partitions.iter().for_each(|partition| self.forwarding.end(*partition));
        self.consumer.incremental_unassign(&only_assigned(&self.consumer, &self.list(partitions)))
    }

    fn list(&self, partitions: &[u32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.forwarding.timers, names::partition(*partition));
        }
        list
    }

    fn commit(&mut self) {
        if Instant::now() < self.commit_next {
            return;
        }
        self.commit_next = Instant::now() + COMMIT_EVERY;
        let mut ack_floors = TopicPartitionList::new();
        self.forwarding.ack_floors(|_| true, &mut ack_floors);
        if ack_floors.count() > 0
            && let Err(error) = self.consumer.commit(&ack_floors, CommitMode::Async)
        {
            tracing::debug!(target: TARGET, %error, "retrying later to commit ack floors");
        }
    }
}
