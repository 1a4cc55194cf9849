//! The first record of a partition travels alone.
//!
//! A broker that does not know a producer in a partition accepts its records from any sequence number. Suppose that
//! two requests are on their way, that the broker refuses the first because it does not lead the partition yet, and
//! that it accepts the second. Then the first has lost its place:
//! [KAFKA-15591](https://issues.apache.org/jira/browse/KAFKA-15591). librdkafka takes the confirm of the second for
//! that of both, and confirms a record that was never written. While only one record is on its way until the broker
//! knows the producer, no other can overtake it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::OwnedHeaders;

use crate::record::{Confirm, Record, Refused};

/// The time without a record after which a broker may have forgotten the producer (`producer.id.expiration.ms`, by
/// default a day).
const REMEMBERED_FOR: Duration = Duration::from_secs(3_600);

/// The queue of a producer.
pub(crate) trait Queue: Send + Sync {
    /// Puts a record into the queue. Does not wait.
    ///
    /// # Errors
    /// Gives headers and `confirm` back if the record was not accepted.
    fn push(&self, record: Record<'_>, sent: Sent) -> Result<(), Refused>;
}

/// The part of a record that comes back with its outcome.
pub(crate) struct Sent {
    pub(crate) confirm: Confirm,
    /// Set for the first record of a partition.
    pub(crate) first: Option<Arc<FirstRecord>>,
}

/// The partitions by topic and number.
type Partitions = HashMap<Box<str>, HashMap<u32, Arc<FirstRecord>>>;

/// The partitions in which the brokers know a producer, and the records that wait until they do.
#[derive(Default)]
pub(crate) struct FirstRecords {
    partitions: RwLock<Partitions>,
    /// Partitions whose waiting records could not be sent because the queue of librdkafka was full.
    stuck: Mutex<Vec<Arc<FirstRecord>>>,
    is_stuck: AtomicBool,
    queue: OnceLock<Weak<dyn Queue>>,
    clock: Clock,
}

/// A partition, and the state of its first record.
pub(crate) struct FirstRecord {
    topic: Box<str>,
    partition: u32,
    /// The time of the last record, on the [clock](Clock); 0 while the brokers do not know the producer.
    known: AtomicU64,
    followers: Mutex<Followers>,
}

/// The records that wait until the first one is confirmed.
#[derive(Default)]
struct Followers {
    /// Whether the first one is on its way.
    is_sent: bool,
    /// Whether the first one was confirmed.
    is_known: bool,
    waiting: VecDeque<WaitingRecord>,
}

struct WaitingRecord {
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: OwnedHeaders,
    confirm: Confirm,
}

/// Counts seconds, from 1. The polling thread advances it. Reading the system time for each record would cost more
/// than the rest of this module.
struct Clock {
    began: Instant,
    seconds: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { began: Instant::now(), seconds: AtomicU64::new(1) }
    }
}

impl Clock {
    fn now(&self) -> u64 {
        self.seconds.load(Ordering::Relaxed)
    }

    fn tick(&self) {
        self.seconds.store(self.began.elapsed().as_secs() + 1, Ordering::Relaxed);
    }
}

impl FirstRecords {
    /// Must be called once, before the first record is sent.
    pub(crate) fn serve(&self, queue: &Arc<dyn Queue>) {
        self.queue.get_or_init(|| Arc::downgrade(queue));
    }

    /// Sends a record, or keeps it until it may be sent. Does not wait.
    pub(crate) fn send(&self, queue: &impl Queue, record: Record<'_>, confirm: Confirm) -> Result<(), Refused> {
        let now = self.clock.now();
        if self.is_known(record.topic, record.partition, now) {
            return queue.push(record, Sent { confirm, first: None });
        }
        let first = self.first(record.topic, record.partition);
        let mut followers = first.followers();
        // Another thread may have learned of the confirm since the first look.
        if first.is_known(now) {
            return queue.push(record, Sent { confirm, first: None });
        }
        if followers.is_sent || !followers.waiting.is_empty() {
            followers.waiting.push_back(WaitingRecord::copy(&record, confirm));
            return Ok(());
        }
        followers.is_known = false;
        first.known.store(0, Ordering::Release);
        queue.push(record, Sent { confirm, first: Some(first.clone()) })?;
        followers.is_sent = true;
        Ok(())
    }

    /// Takes note that the brokers do not know the producer in any partition of this topic.
    pub(crate) fn forget(&self, topic: &str) {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        for first in partitions.get(topic).into_iter().flat_map(HashMap::values) {
            first.known.store(0, Ordering::Release);
        }
    }

    /// Takes note of the outcome of a partition's first record, and sends its followers.
    pub(crate) fn confirmed(&self, first: &Arc<FirstRecord>, is_written: bool) {
        let mut followers = first.followers();
        followers.is_sent = false;
        followers.is_known = is_written;
        self.send_waiting(first, followers);
    }

    /// Sends records that a full queue held up. To be called when there may be room in the queue.
    pub(crate) fn unblock(&self) {
        if self.is_stuck.load(Ordering::Acquire) {
            self.is_stuck.store(false, Ordering::Release);
            let stuck = std::mem::take(&mut *self.stuck.lock().unwrap_or_else(PoisonError::into_inner));
            stuck.iter().for_each(|first| self.send_waiting(first, first.followers()));
        }
    }

    /// Advances the clock. To be called several times a second.
    pub(crate) fn tick(&self) {
        self.clock.tick();
    }

    /// Sends waiting records: all of them if the brokers know the producer, else one.
    fn send_waiting(&self, first: &Arc<FirstRecord>, mut followers: MutexGuard<'_, Followers>) {
        let Some(queue) = self.queue.get().and_then(Weak::upgrade) else { return };
        let mut refused = Vec::new();
        while !followers.is_sent
            && let Some(WaitingRecord { key, payload, headers, confirm }) = followers.waiting.pop_front()
        {
            let (topic, partition) = (&*first.topic, first.partition);
            let record = Record { topic, partition, key: key.as_deref(), payload: payload.as_deref(), headers };
            let sent = Sent { confirm, first: (!followers.is_known).then(|| first.clone()) };
            match queue.push(record, sent) {
                Ok(()) => followers.is_sent = !followers.is_known,
                Err(Refused { code: RDKafkaErrorCode::QueueFull, headers, confirm }) => {
                    followers.waiting.push_front(WaitingRecord { key, payload, headers, confirm });
                    drop(followers);
                    self.stuck.lock().unwrap_or_else(PoisonError::into_inner).push(first.clone());
                    self.is_stuck.store(true, Ordering::Release);
                    return report(refused);
                }
                Err(error) => refused.push(error),
            }
        }
        if followers.is_known {
            first.known.store(self.clock.now(), Ordering::Release);
        }
        drop(followers);
        report(refused);
    }

    fn is_known(&self, topic: &str, partition: u32, now: u64) -> bool {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(topic).and_then(|partitions| partitions.get(&partition)).is_some_and(|first| first.is_known(now))
    }

    fn first(&self, topic: &str, partition: u32) -> Arc<FirstRecord> {
        let mut known = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let partitions = known.entry(topic.into()).or_default();
        partitions.entry(partition).or_insert_with(|| Arc::new(FirstRecord::new(topic, partition))).clone()
    }
}

/// Reports refused records. Must be called without the lock: a confirm may call the publisher.
fn report(refused: Vec<Refused>) {
    refused.into_iter().for_each(|Refused { code, confirm, .. }| confirm(Err(code)));
}

impl FirstRecord {
    fn new(topic: &str, partition: u32) -> Self {
        Self { topic: topic.into(), partition, known: AtomicU64::new(0), followers: Mutex::default() }
    }

    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the brokers know the producer. If they do, a record counts as sent now.
    fn is_known(&self, now: u64) -> bool {
        let last = self.known.load(Ordering::Acquire);
        if last == 0 || now.saturating_sub(last) > REMEMBERED_FOR.as_secs() {
            return false;
        }
        // Another thread may have taken note meanwhile that the producer is not known any more.
        last >= now || self.known.compare_exchange(last, now, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl WaitingRecord {
    fn copy(record: &Record<'_>, confirm: Confirm) -> Self {
        let Record { key, payload, headers, .. } = record;
        let (key, payload) = (key.map(<[u8]>::to_vec), payload.map(<[u8]>::to_vec));
        Self { key, payload, headers: headers.clone(), confirm }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::mpsc;

    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

    use super::*;
    use crate::options::{Options, Target};
    use crate::record_producer::RecordProducer;

    const TIME_LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn a_first_record_that_is_refused_at_first_is_not_lost_behind_those_that_follow() -> Result<(), Box<dyn Error>> {
        let cluster = MockCluster::new(1)?;
        cluster.create_topic("orders", 2, 1)?;
        let servers = cluster.bootstrap_servers();
        let target = Target::new(&format!("kafka://{servers}"), Options::default())?;
        let producer = RecordProducer::start(&target, Arc::default(), ())?;
        let (confirmed, confirms) = mpsc::channel();
        let send = |partition, payload: &str| {
            let (confirmed, headers) = (confirmed.clone(), OwnedHeaders::new());
            let record = Record { topic: "orders", partition, key: None, payload: Some(payload.as_bytes()), headers };
            let confirm = move |result| {
                let _sent = confirmed.send(result);
            };
            assert!(producer.send(record, Box::new(confirm)).is_ok());
        };
        // A record for another partition gives the producer its number.
        send(1, "first of all");
        confirms.recv_timeout(TIME_LIMIT)??;
        // The broker answers so slowly that all records are sent before the first one is refused.
        cluster.broker_round_trip_time(1, Duration::from_millis(200))?;
        cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION]);
        let expected: Vec<String> = (0..5).map(|number| number.to_string()).collect();
        for payload in &expected {
            send(0, payload);
            // Longer than the time in which the producer fills a request.
            std::thread::sleep(Duration::from_millis(10));
        }
        for _ in &expected {
            confirms.recv_timeout(TIME_LIMIT)??;
        }
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", servers).set("group.id", "reader").create()?;
        let mut start = TopicPartitionList::new();
        start.add_partition_offset("orders", 0, Offset::Beginning)?;
        consumer.assign(&start)?;
        let mut written = Vec::new();
        while written.len() < expected.len() {
            let record =
                consumer.poll(TIME_LIMIT).ok_or(format!("confirmed, but not written; there are {written:?}"))??;
            written.push(String::from_utf8(record.payload().unwrap_or_default().to_vec())?);
        }
        assert_eq!(written, expected);
        Ok(())
    }
}
