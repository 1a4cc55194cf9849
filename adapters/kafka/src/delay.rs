//! Delayed messages.
//!
//! Kafka has no delay. So a delayed message waits in a compacted topic beside its own, partitioned alike, and whoever
//! consumes the topic also runs its timers: the consumer group `partitura-timers.TOPIC` gives each partition of the
//! waiting topic to one process, which reads it from the beginning into an index and, when a message falls due, publishes
//! it to its topic, waits for the confirm, and only then writes a tombstone. A crash in between publishes it once more
//! under the same id.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Duration;

use partitura_broker::telemetry::TARGET;
use partitura_broker::{Message, Result, TopicName};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _, OwnedHeaders};
use rdkafka::{Offset, TopicPartitionList};

use crate::consumer::{Callbacks, Change};
use crate::core::Core;
use crate::outgoing::{Outgoing, Record};
use crate::tail::Stop;
use crate::{error, names, wire};

/// The longest wait between two looks at the clock.
const TICK: Duration = Duration::from_millis(50);
/// How many messages of a partition are on their way to their topic at once.
const FIRING: usize = 1_000;
/// The most records that are taken up between two looks at the clock.
const BATCH: usize = 1_000;

/// In a tombstone: due time and offset of the record that is done.
const DONE: &str = "partitura-done";

/// The timers of one topic at work. Dropping it ends them; another process takes them over.
#[derive(Debug)]
pub(crate) struct Timers(Arc<Stop>);

impl Drop for Timers {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Starts the timers of a topic.
pub(crate) fn start(core: &Arc<Core>, topic: &TopicName) -> Result<Arc<Timers>> {
    let stop = Stop::new();
    core.watch_tail(&stop);
    let (weak, topic, stopped) = (Arc::downgrade(core), topic.clone(), stop.clone());
    let config = core.consumer_config(&format!("partitura-timers.{topic}"), Duration::ZERO);
    let run = move || {
        let mut config = config;
        config.set("enable.partition.eof", "true");
        let consumer = match BaseConsumer::from_config_and_context(&config, Callbacks::default()) {
            Ok(consumer) => consumer,
            Err(error) => {
                return tracing::error!(target: TARGET, %error, %topic, "no timers");
            }
        };
        Runner::new(weak, consumer, topic).run(&stopped);
    };
    thread::Builder::new()
        .name("kafka-timers".into())
        .spawn(run)
        .map_err(|source| error::thread("subscribe", source))?;
    Ok(Arc::new(Timers(stop)))
}

/// When it is due, in milliseconds, and at which offset it waits: what falls due at once comes in the order of arrival.
type Due = (u64, i64);

/// What waits in one partition.
#[derive(Debug, Default)]
struct Waiting {
    messages: BTreeMap<Due, Message>,
    /// On their way.
    firing: HashMap<Due, Message>,
    /// Whether everything was read that was there. Before, a tombstone may still come.
    complete: bool,
}

/// What became of a message on its way to its topic.
struct Fired {
    partition: u32,
    due: Due,
    result: Result<(), RDKafkaErrorCode>,
}

struct Runner {
    core: Weak<Core>,
    consumer: BaseConsumer<Callbacks>,
    topic: TopicName,
    timers: String,
    partitions: HashMap<u32, Waiting>,
    fired: (mpsc::Sender<Fired>, mpsc::Receiver<Fired>),
}

impl Runner {
    fn new(core: Weak<Core>, consumer: BaseConsumer<Callbacks>, topic: TopicName) -> Self {
        let timers = names::timers(&topic);
        Self { core, consumer, topic, timers, partitions: HashMap::new(), fired: mpsc::channel() }
    }

    fn run(mut self, stop: &Stop) {
        if let Err(error) = self.consumer.subscribe(&[&self.timers]) {
            return tracing::error!(target: TARGET, %error, "no timers");
        }
        while !stop.is_stopped() {
            self.read();
            self.rebalance();
            let Some(core) = self.core.upgrade() else { break };
            let now = core.now().as_millis();
            let Ok(outgoing) = core.outgoing() else { break };
            drop(core);
            self.finish(&outgoing);
            self.fire(&outgoing, now);
        }
        self.consumer.context().close();
    }

    /// Reads until something may be due.
    fn read(&mut self) {
        let now = self.core.upgrade().map_or(0, |core| core.now().as_millis());
        let next = self.partitions.values().filter(|waiting| waiting.complete && waiting.firing.len() < FIRING);
        let next = next.filter_map(|waiting| waiting.messages.first_key_value()).map(|((due, _), _)| *due).min();
        let busy = self.partitions.values().any(|waiting| !waiting.firing.is_empty());
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
                Some(Err(error)) => {
                    tracing::debug!(target: TARGET, %error, "reading timers");
                }
                None => break,
            }
            wait = Duration::ZERO;
        }
    }

    fn rebalance(&mut self) {
        while let Some(change) = self.consumer.context().change() {
            let mut list = TopicPartitionList::new();
            let (Change::Assign(partitions) | Change::Revoke { partitions, .. }) = &change;
            for partition in partitions {
                list.add_partition(&self.timers, i32::try_from(*partition).unwrap_or(i32::MAX));
            }
            let done = match &change {
                Change::Assign(partitions) => {
                    self.partitions.extend(partitions.iter().map(|partition| (*partition, Waiting::default())));
                    list.set_all_offsets(Offset::Beginning).and_then(|()| self.consumer.incremental_assign(&list))
                }
                Change::Revoke { partitions, .. } => {
                    partitions.iter().for_each(|partition| drop(self.partitions.remove(partition)));
                    self.consumer.incremental_unassign(&list)
                }
            };
            if let Err(error) = done {
                tracing::warn!(target: TARGET, %error, "timers change hands");
            }
        }
    }

    /// Publishes what is due, in order.
    fn fire(&mut self, outgoing: &Outgoing, now: u64) {
        for (partition, waiting) in self.partitions.iter_mut().filter(|(_, waiting)| waiting.complete) {
            while waiting.firing.len() < FIRING {
                let Some(first) = waiting.messages.first_entry().filter(|first| first.key().0 <= now) else { break };
                let (due, partition, done) = (*first.key(), *partition, self.fired.0.clone());
                let message = first.get();
                let record = Record {
                    topic: self.topic.as_str(),
                    partition,
                    key: message.key.as_deref(),
                    payload: Some(&message.payload),
                    headers: wire::headers(message),
                };
                // Nobody listens any more when the timers have ended: then it is published again elsewhere.
                let confirm = move |result| drop(done.send(Fired { partition, due, result }));
                if outgoing.send(record, Box::new(confirm)).is_err() {
                    break;
                }
                waiting.firing.insert(due, first.remove());
            }
        }
    }

    /// Writes tombstones for what has arrived.
    fn finish(&mut self, outgoing: &Outgoing) {
        while let Ok(Fired { partition, due, result }) = self.fired.1.try_recv() {
            let Some(waiting) = self.partitions.get_mut(&partition) else { continue };
            let Some(message) = waiting.firing.remove(&due) else { continue };
            if let Err(code) = result {
                tracing::warn!(target: TARGET, %code, "a due message is published again");
                waiting.messages.insert(due, message);
                continue;
            }
            let key = key(&message);
            let headers = wire::with(OwnedHeaders::new(), DONE, format!("{} {}", due.0, due.1).as_bytes());
            let record = Record { topic: &self.timers, partition, key: Some(key.as_bytes()), payload: None, headers };
            // Without its tombstone it is published again after the next change of the owner.
            let _sent = outgoing.send(record, Box::new(|_| {}));
        }
    }
}

/// The key under which a message waits: the same message for the same moment waits once.
pub(crate) fn key(message: &Message) -> String {
    format!("{} {}", message.id, message.not_before.unwrap_or_default().as_millis())
}

fn take_up(partitions: &mut HashMap<u32, Waiting>, topic: &TopicName, record: &BorrowedMessage<'_>) {
    let Some(waiting) = u32::try_from(record.partition()).ok().and_then(|p| partitions.get_mut(&p)) else { return };
    if record.payload().is_some() {
        let message = wire::message_of_waiting(topic, record);
        let due = (message.not_before.unwrap_or_default().as_millis(), record.offset());
        waiting.messages.insert(due, message);
        return;
    }
    let done = record.headers().and_then(|headers| headers.iter().find(|header| header.key == DONE));
    let done = done.and_then(|header| std::str::from_utf8(header.value?).ok()?.split_once(' '));
    if let Some((Ok(due), Ok(offset))) = done.map(|(due, offset)| (due.parse(), offset.parse())) {
        waiting.messages.remove(&(due, offset));
    }
}
