//! Publishes the delayed messages of one topic.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{ErrorKind, Result, TopicName};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::index::{DelayIndex, Due};
use super::memory::Memory;
use super::reload::{self, Answer, Request};
use crate::birth::Birth;
use crate::core::Core;
use crate::position::Position;
use crate::record::Record;
use crate::record_producer::RecordProducer;
use crate::stop::Stop;
use crate::watch::Watched;
use crate::{error, names, wire};

/// The longest wait between two looks at the clock.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// The interval at which the lowest waiting offset is committed.
pub(super) const COMMIT_EVERY: Duration = Duration::from_secs(15);
/// The longest time that a request may take for which the thread waits.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The outcome of a message that was published to its topic.
struct Outcome {
    partition: u32,
    due: Due,
    result: Result<(), RDKafkaErrorCode>,
}

/// The delayed messages of a topic, in the partitions of which this process is the owner.
pub(super) struct Forwarding {
    pub(super) topic: TopicName,
    pub(super) timers: String,
    watched: Arc<Watched>,
    birth: Birth,
    memory: Memory,
    partitions: HashMap<u32, DelayIndex>,
    outcomes: (mpsc::Sender<Outcome>, mpsc::Receiver<Outcome>),
    reloaded: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
}

impl Forwarding {
    pub(super) fn new(topic: &TopicName, watched: &Arc<Watched>, memory: &Memory) -> Self {
        Self {
            topic: topic.clone(),
            timers: names::timers(topic),
            watched: watched.clone(),
            birth: watched.birth(),
            memory: memory.clone(),
            partitions: HashMap::new(),
            outcomes: mpsc::channel(),
            reloaded: mpsc::channel(),
        }
    }

    /// Whether the topic of the delayed messages was created again, so that all that was read of it is void.
    pub(super) fn is_outdated(&mut self) -> bool {
        let outdated = self.birth.differs(self.watched.birth());
        if !outdated {
            self.birth = self.watched.birth();
        }
        outdated
    }

    /// Takes over a partition. Returns the offset to read from: the lowest one that the last owner committed as
    /// waiting.
    pub(super) fn begin(&mut self, partition: u32, committed: Option<TopicPartitionListElem<'_>>, now: u64) -> i64 {
        let position = committed.and_then(|place| match place.offset() {
            Offset::Offset(offset) => Some(Position::decode(offset, place.metadata())),
            _ => None,
        });
        let position = position.filter(|position| !position.birth.differs(self.birth));
        let from = position.map_or(0, |position| position.offset);
        self.partitions.insert(partition, DelayIndex::new(self.memory.clone(), from, now));
        from
    }

    /// Gives a partition back.
    pub(super) fn end(&mut self, partition: u32) {
        self.partitions.remove(&partition);
    }

    /// The longest wait until a message may be due.
    pub(super) fn wait(&self, now: u64, clock: Instant) -> Duration {
        let next = self.partitions.values().filter_map(|waiting| waiting.next_due(clock)).min();
        let busy = self.partitions.values().any(|waiting| waiting.is_publishing() || waiting.reloading);
        let longest = if busy { Duration::from_millis(1) } else { TICK };
        next.map_or(longest, |due| Duration::from_millis(due.saturating_sub(now)).min(longest))
    }

    /// Takes note that a partition was read to its end.
    pub(super) fn complete(&mut self, partition: u32) {
        if let Some(waiting) = self.partitions.get_mut(&partition) {
            waiting.complete = true;
        }
    }

    /// Takes up a record that was read.
    pub(super) fn take_up(&mut self, record: &BorrowedMessage<'_>) {
        let Self { partitions, topic, .. } = self;
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

    /// Adds the lowest offsets that wait to a list. All messages that wait now are at or above them, so the late
    /// commit of a former owner does no harm.
    pub(super) fn ack_floors(&self, wanted: impl Fn(u32) -> bool, list: &mut TopicPartitionList) {
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
    }

    /// Reads contents again that are needed next, writes tombstones, and publishes the messages that are due.
    pub(super) fn forward(&mut self, core: &Core, stop: &Arc<Stop>, producer: &RecordProducer, now: u64) -> Result<()> {
        self.reload(core, stop)?;
        self.finish(producer, now);
        self.publish(producer, now);
        Ok(())
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
