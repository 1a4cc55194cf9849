use std::collections::HashMap;
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{ErrorKind, Result, TopicName};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::index::{DelayIndex, Due};
use super::memory::Memory;
use super::reload::{self, Answer, Request};
use crate::birth::Birth;
use crate::callbacks::{Callbacks, Change, only_assigned};
use crate::core::Core;
use crate::position::Position;
use crate::record::Record;
use crate::record_producer::RecordProducer;
use crate::stop::Stop;
use crate::watch::Watched;
use crate::{error, names, wire};

/// The longest wait between two looks at the clock. Records and requests of the group end it.
const TICK: Duration = Duration::from_millis(200);
/// The largest number of records that are read between two looks at the clock.
const BATCH: usize = 1_000;
/// The interval at which the lowest waiting offset is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(15);
/// The longest time that a request may take for which the thread waits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The outcome of a message that was published to its topic.
struct Outcome {
    partition: u32,
    due: Due,
    result: Result<(), RDKafkaErrorCode>,
}

/// Forwards the delayed messages of a topic, until it fails.
pub(super) struct Forwarding {
    core: Weak<Core>,
    consumer: BaseConsumer<Callbacks>,
    topic: TopicName,
    timers: String,
    watched: Arc<Watched>,
    birth: Birth,
    memory: Memory,
    partitions: HashMap<u32, DelayIndex>,
    outcomes: (mpsc::Sender<Outcome>, mpsc::Receiver<Outcome>),
    reloaded: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    commit_next: Instant,
}

impl Forwarding {
    pub(super) fn start(core: &Weak<Core>, topic: &TopicName, watched: &Arc<Watched>, memory: &Memory) -> Result<Self> {
        let strong = core.upgrade().ok_or_else(|| error::closed("subscribe"))?;
        let mut config = strong.target().consumer_config(&format!("partitura-timers.{topic}"), Duration::ZERO);
        config.set("enable.partition.eof", "true");
        // Brokers answer at once if there are records. A process may have hundreds of such requests waiting.
        config.set("fetch.wait.max.ms", "500");
        let failed = |source| error::error("subscribe", source).of(topic);
        let consumer = BaseConsumer::from_config_and_context(&config, Callbacks::default()).map_err(failed)?;
        let timers = names::timers(topic);
        consumer.subscribe(&[&timers]).map_err(failed)?;
        Ok(Self {
            core: core.clone(),
            consumer,
            topic: topic.clone(),
            timers,
            watched: watched.clone(),
            birth: watched.birth(),
            memory: memory.clone(),
            partitions: HashMap::new(),
            outcomes: mpsc::channel(),
            reloaded: mpsc::channel(),
            commit_next: Instant::now() + COMMIT_EVERY,
        })
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
            self.reload(&core, stop)?;
            drop(core);
            self.finish(&producer, now);
            self.publish(&producer, now);
            self.commit();
            if self.birth.differs(self.watched.birth()) {
                let text = "the topic of delayed messages was created again and is read from its beginning";
                return Err(partitura_broker::Error::new(ErrorKind::Disconnected, "consume", text).of(&self.timers));
            }
            self.birth = self.watched.birth();
        }
        Ok(())
    }

    /// Reads until a message may be due.
    fn read(&mut self) -> Result<()> {
        let (now, clock) = (self.core.upgrade().map_or(0, |core| core.now().as_millis()), Instant::now());
        let next = self.partitions.values().filter_map(|waiting| waiting.next_due(clock)).min();
        let busy = self.partitions.values().any(|waiting| waiting.is_publishing() || waiting.reloading);
        let longest = if busy { Duration::from_millis(1) } else { TICK };
        let mut wait = next.map_or(longest, |due| Duration::from_millis(due.saturating_sub(now)).min(longest));
        for _ in 0..BATCH {
            let Self { consumer, partitions, topic, .. } = self;
            match consumer.poll(wait) {
                Some(Ok(record)) => take_up(partitions, topic, &record),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if let Some(waiting) = u32::try_from(partition).ok().and_then(|p| partitions.get_mut(&p)) {
                        waiting.complete = true;
                    }
                }
                Some(Err(source)) => {
                    let fatal = matches!(source, KafkaError::MessageConsumptionFatal(_));
                    let failure = error::error("consume", source).of(&*topic);
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
            done.map_err(|source| error::error("consume", source).of(&self.topic))?;
        }
        Ok(())
    }

    /// Begins at the lowest offset that the last owner committed as waiting.
    fn assign(&mut self, partitions: &[u32]) -> KafkaResult<()> {
        let Some(now) = self.core.upgrade().map(|core| core.now().as_millis()) else { return Ok(()) };
        let mut start = self.list(partitions);
        if !partitions.is_empty() {
            let committed = self.consumer.committed_offsets(self.list(partitions), REQUEST_TIMEOUT)?;
            for partition in partitions {
                let place = committed.find_partition(&self.timers, names::partition(*partition));
                let position = place.and_then(|place| match place.offset() {
                    Offset::Offset(offset) => Some(Position::decode(offset, place.metadata())),
                    _ => None,
                });
                let position = position.filter(|position| !position.birth.differs(self.birth));
                let from = position.map_or(0, |position| position.offset);
                start.set_partition_offset(&self.timers, names::partition(*partition), Offset::Offset(from))?;
                self.partitions.insert(*partition, DelayIndex::new(self.memory.clone(), from, now));
            }
        }
        self.consumer.incremental_assign(&start)
    }

    fn revoke(&mut self, partitions: &[u32], lost: bool) -> KafkaResult<()> {
        if !lost {
            let ack_floors = self.ack_floors(|partition| partitions.contains(&partition));
            if let Err(error) = self.consumer.commit(&ack_floors, CommitMode::Sync) {
                tracing::debug!(target: TARGET, %error, topic = %self.topic, "committing ack floors; the next owner reads more");
            }
        }
        partitions.iter().for_each(|partition| drop(self.partitions.remove(partition)));
        self.consumer.incremental_unassign(&only_assigned(&self.consumer, &self.list(partitions)))
    }

    fn list(&self, partitions: &[u32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.timers, names::partition(*partition));
        }
        list
    }

    /// The lowest offsets that wait. All messages that wait now are at or above them, so the late commit of a
    /// former owner does no harm.
    fn ack_floors(&self, wanted: impl Fn(u32) -> bool) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, waiting) in self.partitions.iter().filter(|(partition, _)| wanted(**partition)) {
            // A partition that is not read to its end has no ack floor: a tombstone may come that moves it.
            if waiting.complete {
                let position = Position::fresh(self.birth, waiting.ack_floor());
                let mut place = list.add_partition(&self.timers, names::partition(*partition));
                place.set_metadata(position.encode());
                if let Err(error) = place.set_offset(Offset::Offset(position.offset)) {
                    tracing::debug!(target: TARGET, %error, "an offset cannot be committed");
                }
            }
        }
        list
    }

    fn commit(&mut self) {
        if Instant::now() < self.commit_next {
            return;
        }
        self.commit_next = Instant::now() + COMMIT_EVERY;
        let ack_floors = self.ack_floors(|_| true);
        if ack_floors.count() > 0
            && let Err(error) = self.consumer.commit(&ack_floors, CommitMode::Async)
        {
            tracing::debug!(target: TARGET, %error, "retrying later to commit ack floors");
        }
    }

    /// Starts to read contents again that are needed next, and takes those that were read.
    fn reload(&mut self, core: &Core, stop: &Arc<Stop>) -> Result<()> {
        while let Ok(Answer { partition, contents, gone, up_to }) = self.reloaded.1.try_recv() {
            let Some(waiting) = self.partitions.get_mut(&partition) else { continue };
            gone.into_iter().for_each(|due| waiting.remove(due));
            contents.into_iter().for_each(|(due, message)| waiting.restore(due, message));
            match up_to {
                Ok(up_to) => waiting.reloaded(up_to),
                Err(_) => {
                    waiting.reloading = false;
                    waiting.stop(Instant::now());
                }
            }
        }
        for (partition, waiting) in &mut self.partitions {
            let wanted = waiting.wanted();
            if wanted.is_empty() {
                continue;
            }
            waiting.reloading = true;
            let (topic, timers, mean) = (self.topic.clone(), self.timers.clone(), waiting.mean());
            let request = Request { topic, timers, partition: *partition, wanted, mean };
            reload::start(core.target().reader_config(), request, stop.clone(), self.reloaded.0.clone())
                .map_err(|source| error::thread("consume", source))?;
        }
        Ok(())
    }

    /// Publishes the messages that are due, in order.
    fn publish(&mut self, producer: &RecordProducer, now: u64) {
        for (partition, waiting) in &mut self.partitions {
            while let Some((due, message)) = waiting.due(now) {
                let (partition, done) = (*partition, self.outcomes.0.clone());
                let record = Record {
                    topic: self.topic.as_str(),
                    partition,
                    key: message.key.as_deref(),
                    payload: Some(&message.payload),
                    headers: wire::forwarded_headers(message, waiting.is_repeated(due)),
                };
                // If the forwarder has ended, no one receives this, and the next owner publishes the message again.
                let confirm = move |result| drop(done.send(Outcome { partition, due, result }));
                match producer.send(record, Box::new(confirm)) {
                    Ok(()) => waiting.publish(due),
                    // The queue will have room again in a moment.
                    Err(refused) if refused.code == RDKafkaErrorCode::QueueFull => break,
                    Err(refused) => {
                        log_refusal(&self.topic, partition, refused.code, waiting.stop(Instant::now()));
                        break;
                    }
                }
            }
        }
    }

    /// Writes tombstones for the published messages.
    fn finish(&mut self, producer: &RecordProducer, now: u64) {
        while let Ok(Outcome { partition, due, result }) = self.outcomes.1.try_recv() {
            let Some(waiting) = self.partitions.get_mut(&partition) else { continue };
            if let Err(code) = result {
                let wait = if concerns_one(code) { Some(waiting.set_aside(due, now)) } else { waiting.block(due) };
                log_refusal(&self.topic, partition, code, wait);
                continue;
            }
            let Some(message) = waiting.confirmed(due) else { continue };
            let (key, headers) = (wire::delayed_key(&message), wire::done(&message, due.offset));
            let record = Record { topic: &self.timers, partition, key: Some(key.as_bytes()), payload: None, headers };
            // Without its tombstone the message is published again after the next change of the owner.
            let _sent = producer.send(record, Box::new(|_| {}));
        }
    }
}

/// Whether a refusal concerns only this message, so that others of its partition may pass.
fn concerns_one(code: RDKafkaErrorCode) -> bool {
    matches!(error::kind(code), ErrorKind::PayloadTooLarge | ErrorKind::InvalidArgument)
}

fn log_refusal(topic: &TopicName, partition: u32, code: RDKafkaErrorCode, wait: Option<Duration>) {
    if let Some(wait) = wait {
        tracing::warn!(target: TARGET, %topic, partition, %code, ?wait, "retrying to publish a delayed message");
    }
}

fn take_up(partitions: &mut HashMap<u32, DelayIndex>, topic: &TopicName, record: &BorrowedMessage<'_>) {
    let Some(waiting) = u32::try_from(record.partition()).ok().and_then(|p| partitions.get_mut(&p)) else { return };
    waiting.next = waiting.next.max(record.offset() + 1);
    if let Some(payload) = record.payload() {
        let due = Due { at: wire::due(record).unwrap_or_default().as_millis(), offset: record.offset() };
        return waiting.insert(due, payload.len(), || wire::delayed_message(topic, record));
    }
    if let Some((at, offset)) = wire::done_by(record) {
        waiting.remove(Due { at, offset });
    }
}
