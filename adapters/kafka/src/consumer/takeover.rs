//! Takes over the partitions that the group assigns.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use partitura_adapter_kit::Backoff;
use partitura_broker::telemetry::TARGET;
use partitura_broker::{Error, ErrorKind, Result, TopicName};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use super::membership::Membership;
use super::progress::Progress;
use super::source::Source;
use super::state::Share;
use crate::birth::Birth;
use crate::callbacks::Callbacks;
use crate::core::Core;
use crate::delay::{Lease, Leases};
use crate::names;
use crate::position::Position;
use crate::watch::Watched;

/// The longest time that a request may take for which the thread waits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after a failure.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(5) };
/// The interval at which the numbers of partitions of incomplete topics are compared.
const INCOMPLETE: Duration = Duration::from_secs(5);

/// The topics of a subscription, and their births.
pub(super) struct SubscribedTopics {
    core: Weak<Core>,
    pub(super) runtime: Handle,
    /// The names in order. The group is balanced over the partitions of the first topic; the others follow.
    pub(super) names: Vec<TopicName>,
    watched: Vec<Arc<Watched>>,
    /// The topics whose delayed messages the owner of a partition forwards.
    forwarded: Vec<bool>,
    leases: Arc<Leases>,
}

impl SubscribedTopics {
    /// Must be called within tokio's runtime.
    pub(super) async fn new(core: &Arc<Core>, names: Vec<TopicName>, leases: Arc<Leases>) -> Result<Self> {
        let watched = names.iter().map(|name| core.topics.watch(name.as_str())).collect();
        let mut forwarded = Vec::with_capacity(names.len());
        for name in &names {
            forwarded.push(core.topics.route(name).await?.is_forwarded_by_owners());
        }
        Ok(Self { core: Arc::downgrade(core), runtime: Handle::current(), names, watched, forwarded, leases })
    }

    /// Has the delayed messages of a partition forwarded, if that is the task of its owner.
    fn lease(&self, topic: usize, partition: u32) -> Option<Arc<Lease>> {
        self.forwarded[topic].then(|| self.leases.hold(&self.names[topic], partition))
    }

    /// The births of the topics, as far as they are known.
    pub(super) fn births(&self) -> Vec<Birth> {
        self.watched.iter().map(|watched| watched.birth()).collect()
    }

    /// Looks the births up now. Blocks.
    fn look_up(&self) {
        if let Some(core) = self.core.upgrade() {
            self.runtime.block_on(core.topics.look_at_all(&self.watched));
        }
    }

    /// Has the births looked up soon, because offsets went back.
    pub(super) fn suspect(&self) {
        if let Some(core) = self.core.upgrade() {
            core.topics.hurry();
        }
    }

    /// These partitions of all topics.
    pub(super) fn list(&self, partitions: impl IntoIterator<Item = u32> + Clone) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for topic in &self.names {
            for partition in partitions.clone() {
                list.add_partition(topic.as_str(), names::partition(partition));
            }
        }
        list
    }
}

/// The number of partitions of a topic.
struct Count<'t> {
    topic: &'t TopicName,
    partitions: u32,
}

/// The partitions that the group has assigned and that are not taken over yet.
#[derive(Debug)]
pub(super) struct PendingPartitions {
    partitions: BTreeSet<u32>,
    /// Committed places that are void although their birth does not say so: partition and topic.
    void: BTreeSet<(u32, usize)>,
    next: Instant,
    failures: u32,
    /// The last error about partitions that cannot be owned.
    reported: Option<String>,
}

impl PendingPartitions {
    pub(super) fn new() -> Self {
        let (partitions, void, reported) = (BTreeSet::new(), BTreeSet::new(), None);
        Self { partitions, void, next: Instant::now(), failures: 0, reported }
    }

    pub(super) fn add(&mut self, partitions: impl IntoIterator<Item = u32>) {
        self.partitions.extend(partitions);
        self.next = Instant::now();
    }

    /// Ignores the committed place of a topic in a partition.
    pub(super) fn distrust(&mut self, partition: u32, topic: usize) {
        self.void.insert((partition, topic));
    }

    /// Removes partitions that another member takes.
    pub(super) fn forget(&mut self, partitions: &[u32]) {
        for partition in partitions {
            self.partitions.remove(partition);
        }
    }

    pub(super) fn are_due(&self) -> bool {
        !self.partitions.is_empty() && Instant::now() >= self.next
    }

    /// Takes over the partitions that can be owned. With `answer` the group waits until its partitions are
    /// assigned, and gets no other message to this consumer meanwhile. So it gets an answer in any case. Partitions
    /// that could not be taken over are tried again.
    pub(super) fn take_over(
        &mut self,
        consumer: &Arc<BaseConsumer<Callbacks>>,
        topics: &SubscribedTopics,
        membership: &Membership,
        answer: bool,
    ) {
        match self.try_to(consumer, topics, membership) {
            Ok(()) => {
                self.failures = 0;
                self.next = Instant::now() + INCOMPLETE;
            }
            Err(error) => {
                self.failures += 1;
                self.next = Instant::now() + BACKOFF.delay(self.failures, u64::MAX);
                if self.failures == 1 {
                    tracing::warn!(target: TARGET, %error, "retrying to take over partitions");
                }
                let partitions: Vec<u32> = self.partitions.iter().copied().collect();
                membership.state().forget(&partitions);
                if answer && let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                    tracing::warn!(target: TARGET, %error, "answering the group without partitions");
                }
            }
        }
    }

    fn try_to(
        &mut self,
        consumer: &Arc<BaseConsumer<Callbacks>>,
        topics: &SubscribedTopics,
        membership: &Membership,
    ) -> KafkaResult<()> {
        let complete = self.complete(consumer, topics)?;
        // They may be left from an attempt that failed.
        membership.state().forget(&complete);
        let mut start = TopicPartitionList::new();
        if !complete.is_empty() {
            topics.look_up();
            let births = topics.births();
            let committed = consumer.committed_offsets(topics.list(complete.iter().copied()), REQUEST_TIMEOUT)?;
            let mut ends = topics.list(complete.iter().copied());
            ends.set_all_offsets(Offset::End)?;
            let ends = consumer.offsets_for_times(ends, REQUEST_TIMEOUT)?;
            let mut taken = Vec::with_capacity(complete.len());
            for partition in &complete {
                let mut shares = Vec::with_capacity(topics.names.len());
                for (at, topic) in topics.names.iter().enumerate() {
                    let (name, number) = (topic.as_str(), names::partition(*partition));
                    let distrusted = self.void.contains(&(*partition, at));
                    let progress = read_place(&committed, &ends, name, number, births[at], distrusted)?;
                    start.add_partition_offset(name, number, Offset::Offset(progress.start()))?;
                    let source = Source::split(consumer, topic, number, &membership.arrived);
                    let source = source.ok_or(KafkaError::Subscription(topic.to_string()))?;
                    shares.push(Share { progress, source, _lease: topics.lease(at, *partition) });
                }
                taken.push((*partition, shares));
            }
            let mut state = membership.state();
            taken.into_iter().for_each(|(partition, shares)| state.take_over(partition, shares));
        }
        consumer.incremental_assign(&start)?;
        for partition in &complete {
            self.partitions.remove(partition);
            self.void.retain(|(void, _)| void != partition);
        }
        membership.state().joined = true;
        Ok(())
    }

    /// The partitions that all topics have. Logs what to do about the others.
    fn complete(&mut self, consumer: &BaseConsumer<Callbacks>, topics: &SubscribedTopics) -> KafkaResult<Vec<u32>> {
        if topics.names.len() == 1 || self.partitions.is_empty() {
            return Ok(self.partitions.iter().copied().collect());
        }
        let mut counts = Vec::with_capacity(topics.names.len());
        for topic in &topics.names {
            let metadata = consumer.fetch_metadata(Some(topic.as_str()), REQUEST_TIMEOUT)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic.as_str());
            let found = found.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic))?;
            if let Some(error) = found.error() {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            let partitions = u32::try_from(found.partitions().len()).unwrap_or(u32::MAX);
            counts.push(Count { topic, partitions });
        }
        self.report_missing(&counts);
        let least = counts.iter().map(|count| count.partitions).min().unwrap_or_default();
        Ok(self.partitions.iter().copied().filter(|partition| *partition < least).collect())
    }

    /// Logs, once for each set of numbers, which partitions cannot be owned.
    fn report_missing(&mut self, counts: &[Count<'_>]) {
        let most = counts.iter().map(|count| count.partitions).max().unwrap_or_default();
        let lacking: Vec<_> = counts.iter().filter(|count| count.partitions < most).collect();
        let first = lacking.iter().min_by_key(|count| count.partitions);
        let Some(Count { topic: first, partitions: least }) = first else { return self.reported = None };
        let each: Vec<String> =
            lacking.iter().map(|count| format!("{} has {}", count.topic, count.partitions)).collect();
        let text = format!(
            "partitions {least} to {} cannot be owned: of topics that belong together one has {most}, but {}; give each of \
             them {most}, with kafka-topics.sh --alter --partitions {most}, or declare them so",
            most - 1,
            each.join(", ")
        );
        if self.reported.as_ref() != Some(&text) {
            let error = Error::new(ErrorKind::Incompatible, "consume", text.clone()).of(first);
            tracing::error!(target: TARGET, %error, "taking over the other partitions");
            self.reported = Some(text);
        }
    }
}

/// The place where a partition is taken up.
fn read_place(
    committed: &TopicPartitionList,
    ends: &TopicPartitionList,
    topic: &str,
    partition: i32,
    birth: Birth,
    distrusted: bool,
) -> KafkaResult<Progress> {
    let missing = || KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset);
    let place = committed.find_partition(topic, partition).ok_or_else(missing)?;
    place.error()?;
    let end = ends.find_partition(topic, partition).ok_or_else(missing)?;
    end.error()?;
    let Offset::Offset(end) = end.offset() else { return Err(missing()) };
    let position = match place.offset() {
        Offset::Offset(offset) if offset <= end && !distrusted => Some(Position::decode(offset, place.metadata())),
        // There is no place, or it is beyond the end.
        _ => None,
    };
    // Of a topic that was created again, all existing messages are promised.
    let position = position.filter(|position| !position.birth.differs(birth));
    let position = position.unwrap_or_else(|| Position::unknown(birth, 0));
    // A birth that could not be read now may turn out later to differ from that of the place.
    let birth = if birth.is_known() { birth } else { position.birth };
    Ok(Progress::new(Position { birth, ..position }, end))
}
