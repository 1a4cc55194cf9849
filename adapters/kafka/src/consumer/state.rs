use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::TokenSlab;
use partitura_broker::{AckToken, Assignment, Credit, Delivery, Error, Event, Partition, TopicName};
use rdkafka::error::KafkaError;

use super::progress::{PartitionPosition, Progress};
use super::source::Source;
use crate::birth::Birth;
use crate::delay::Lease;
use crate::wire::Stored;

/// The largest number of messages in one event.
const BATCH: usize = 250;

/// The partitions that a consumer owns, and the messages that it holds. The polling thread changes the ownership.
/// The task that calls `next` takes messages.
#[derive(Debug)]
pub(super) struct State {
    topics: Vec<Topic>,
    partitions: BTreeMap<u32, Owned>,
    epochs: HashMap<u32, u32>,
    slab: TokenSlab<Held>,
    notices: VecDeque<Event>,
    /// The partition that comes first in the next event.
    turn: u32,
    credit: Credit,
    /// Failures of reading, for the polling thread.
    failures: Vec<KafkaError>,
    /// The number of settlements so far, and the number of those that the brokers have.
    pub(super) settled: u64,
    pub(super) committed: u64,
    pub(super) joined: bool,
    pub(super) end: Option<Error>,
}

/// A topic of the consumer, and the amount of its unsettled messages.
#[derive(Debug)]
struct Topic {
    name: TopicName,
    unsettled: Amount,
}

#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    messages: usize,
    bytes: usize,
}

impl Amount {
    fn add(&mut self, messages: usize, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes;
    }

    fn take(&mut self, messages: usize, bytes: usize) {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[derive(Debug)]
struct Owned {
    epoch: u32,
    phase: Phase,
    shares: Vec<Share>,
}

/// A topic in an owned partition.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) progress: Progress,
    pub(super) source: Source,
    /// Held for a queue: its delayed messages are forwarded here.
    pub(super) _lease: Option<Arc<Lease>>,
}

/// The phases of the ownership of a partition, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The brokers do not know yet that an owner is at work.
    Opening,
    /// The brokers know, and the consumer has not been told.
    Untold,
    /// The consumer owns it.
    Owned,
    /// The consumer was asked to give it back.
    Revoking,
    /// The consumer has given it back, or may do nothing more with it.
    Released,
}

#[derive(Debug)]
struct Held {
    topic: usize,
    offset: i64,
    size: usize,
}

impl State {
    /// The names of the topics, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &TopicName> {
        self.topics.iter().map(|topic| &topic.name)
    }

    pub(super) fn new(consumer: u32, topics: Vec<TopicName>, credit: Credit) -> Self {
        Self {
            topics: topics.into_iter().map(|name| Topic { name, unsettled: Amount::default() }).collect(),
            partitions: BTreeMap::new(),
            epochs: HashMap::new(),
            slab: TokenSlab::new(consumer),
            notices: VecDeque::new(),
            turn: 0,
            credit,
            failures: Vec::new(),
            settled: 0,
            committed: 0,
            joined: false,
            end: None,
        }
    }

    // For the polling thread.

    /// Takes over a partition. None of its messages is delivered before it is [opened](Self::opened).
    pub(super) fn take_over(&mut self, partition: u32, shares: Vec<Share>) {
        let epoch = *self.epochs.entry(partition).and_modify(|epoch| *epoch += 1).or_insert(1);
        self.partitions.insert(partition, Owned { epoch, phase: Phase::Opening, shares });
    }

    /// Takes note that the brokers know of an owner at work in these partitions.
    pub(super) fn opened(&mut self, partitions: &[u32]) {
        let mut assigned = Vec::new();
        for partition in partitions {
            if let Some(owned) = self.partitions.get_mut(partition).filter(|owned| owned.phase == Phase::Opening) {
                owned.phase = Phase::Untold;
                assigned.push(Assignment { partition: Partition(*partition), epoch: owned.epoch });
            }
        }
        if !assigned.is_empty() {
            self.notices.push_back(Event::Assigned(assigned));
        }
    }

    pub(super) fn is_opening(&self) -> bool {
        self.partitions.values().any(|owned| owned.phase == Phase::Opening)
    }

    /// The failures of reading since the last call.
    pub(super) fn failures(&mut self) -> Vec<KafkaError> {
        std::mem::take(&mut self.failures)
    }

    /// Begins to give partitions back. The consumer is asked for those of which it knows.
    pub(super) fn revoke(&mut self, partitions: &[u32], within: Duration) {
        self.withdraw(partitions);
        let mut asked = Vec::new();
        for partition in partitions {
            if let Some(owned) = self.partitions.get_mut(partition) {
                // The consumer cannot give back a partition of which it was not told.
                let told = owned.phase == Phase::Owned;
                owned.phase = if told { Phase::Revoking } else { Phase::Released };
                asked.extend(told.then_some(Partition(*partition)));
            }
        }
        if !asked.is_empty() {
            self.notices.push_back(Event::Revoking { partitions: asked, within });
        }
    }

    /// Takes partitions away. The consumer is told of those that it still has.
    pub(super) fn lose(&mut self, partitions: &[u32]) {
        self.withdraw(partitions);
        let mut lost = Vec::new();
        for partition in partitions {
            let Some(owned) = self.partitions.get_mut(partition) else { continue };
            if matches!(owned.phase, Phase::Owned | Phase::Revoking) {
                lost.push(Partition(*partition));
            }
            owned.phase = Phase::Released;
        }
        self.void(partitions);
        if !lost.is_empty() {
            self.notices.push_back(Event::Lost(lost));
        }
    }

    /// Forgets partitions that another member may own from now on.
    pub(super) fn forget(&mut self, partitions: &[u32]) {
        for partition in partitions {
            self.partitions.remove(partition);
        }
        self.void(partitions);
    }

    pub(super) fn owned(&self) -> Vec<u32> {
        self.partitions.keys().copied().collect()
    }

    /// The owned partitions with offsets of a topic that no longer exists, by the births of the topics that exist.
    /// `true` marks the topics whose offsets went back, which no birth may show.
    pub(super) fn outdated(&self, births: &[Birth]) -> BTreeMap<u32, Vec<bool>> {
        let mut outdated = BTreeMap::new();
        for (partition, owned) in &self.partitions {
            let rewound: Vec<bool> = owned.shares.iter().map(|share| share.progress.is_rewound()).collect();
            let differs = owned.shares.iter().zip(births).any(|(share, birth)| share.progress.birth().differs(*birth));
            if differs || rewound.contains(&true) {
                outdated.insert(*partition, rewound);
            }
        }
        outdated
    }

    /// Whether the consumer still has to release some of these.
    pub(super) fn awaits(&self, partitions: &[u32]) -> bool {
        partitions.iter().any(|p| self.partitions.get(p).is_some_and(|owned| owned.phase == Phase::Revoking))
    }

    /// The positions that have changed since the last call, to be committed.
    pub(super) fn changes(&mut self) -> Vec<PartitionPosition> {
        self.collect(|progress| std::mem::take(&mut progress.dirty), None)
    }

    /// The last positions of these partitions.
    pub(super) fn closing(&mut self, partitions: &[u32]) -> Vec<PartitionPosition> {
        self.collect(|_| true, Some(partitions))
    }

    fn collect(
        &mut self,
        mut wanted: impl FnMut(&mut Progress) -> bool,
        last: Option<&[u32]>,
    ) -> Vec<PartitionPosition> {
        let mut changes = Vec::new();
        for (partition, owned) in &mut self.partitions {
            if last.is_some_and(|last| !last.contains(partition)) {
                continue;
            }
            for (topic, Share { progress, .. }) in owned.shares.iter_mut().enumerate() {
                if wanted(progress) {
                    let position = progress.position(last.is_none());
                    changes.push(PartitionPosition { topic, partition: *partition, position });
                }
            }
        }
        changes
    }

    /// Takes note that a commit failed: its positions are to be committed again.
    pub(super) fn undo(&mut self, positions: &[PartitionPosition]) {
        for PartitionPosition { topic, partition, .. } in positions {
            if let Some(progress) = self.progress(*partition, *topic) {
                progress.dirty = true;
            }
        }
    }

    /// Withdraws assignments of which the consumer was not told yet.
    fn withdraw(&mut self, partitions: &[u32]) {
        for notice in &mut self.notices {
            if let Event::Assigned(assigned) = notice {
                assigned.retain(|a| !partitions.contains(&a.partition.0));
            }
        }
        self.notices.retain(|notice| !matches!(notice, Event::Assigned(assigned) if assigned.is_empty()));
    }

    fn progress(&mut self, partition: u32, topic: usize) -> Option<&mut Progress> {
        self.partitions.get_mut(&partition)?.shares.get_mut(topic).map(|share| &mut share.progress)
    }

    /// Makes the tokens of these partitions stale.
    fn void(&mut self, partitions: &[u32]) {
        for held in self.slab.take_unless(|partition, _| !partitions.contains(&partition.0)) {
            self.topics[held.topic].unsettled.take(1, held.size);
        }
    }

    // For the consumer.

    /// The next event, if there is one.
    pub(super) fn next(&mut self) -> Option<Event> {
        if let Some(notice) = self.notices.pop_front() {
            if let Event::Assigned(assigned) = &notice {
                for Assignment { partition, .. } in assigned {
                    if let Some(owned) = self.partitions.get_mut(&partition.0) {
                        owned.phase = Phase::Owned;
                    }
                }
            }
            return Some(notice);
        }
        let mut deliveries = Vec::new();
        let after = self.partitions.range(self.turn..).map(|(partition, _)| *partition);
        let order: Vec<u32> =
            after.chain(self.partitions.range(..self.turn).map(|(partition, _)| *partition)).collect();
        for partition in order {
            self.deliver(partition, &mut deliveries);
            if deliveries.len() >= BATCH {
                self.turn = partition + 1;
                break;
            }
        }
        (!deliveries.is_empty()).then_some(Event::Deliveries(deliveries))
    }

    fn deliver(&mut self, partition: u32, deliveries: &mut Vec<Delivery>) {
        let Self { partitions, topics, slab, credit, failures, .. } = self;
        let Some(owned) = partitions.get_mut(&partition).filter(|owned| owned.phase == Phase::Owned) else { return };
        for (at, (Share { progress, source, .. }, topic)) in owned.shares.iter_mut().zip(topics).enumerate() {
            if progress.is_crowded() {
                continue;
            }
            while deliveries.len() < BATCH {
                let (offset, size) = match source.peek(&topic.name) {
                    Some(Ok(stored)) => (stored.offset, stored.message.size()),
                    Some(Err(error)) => {
                        failures.push(error);
                        continue;
                    }
                    None => break,
                };
                if !progress.wants(offset) {
                    source.take();
                    continue;
                }
                let fits = topic.unsettled.messages < credit.messages.get()
                    && topic.unsettled.bytes + size <= credit.bytes.get();
                if topic.unsettled.messages > 0 && !fits {
                    break;
                }
                let Some(Stored { message, is_repeated, .. }) = source.take() else { break };
                let redelivered = progress.deliver(offset) || is_repeated;
                topic.unsettled.add(1, size);
                let token = slab.insert(Partition(partition), owned.epoch, Held { topic: at, offset, size });
                deliveries.push(Delivery { message, partition: Partition(partition), redelivered, token });
            }
        }
    }

    /// Settles messages. Returns the number of stale tokens.
    pub(super) fn settle(&mut self, tokens: &[AckToken]) -> u64 {
        let mut stale = 0;
        for token in tokens {
            let Some(held) = self.slab.remove(token) else {
                stale += 1;
                continue;
            };
            self.topics[held.topic].unsettled.take(1, held.size);
            let progress = self.progress(token.partition.0, held.topic);
            if progress.is_some_and(|progress| progress.settle(held.offset)) {
                self.settled += 1;
            }
        }
        stale
    }

    /// Gives partitions back that are being revoked.
    pub(super) fn release(&mut self, partitions: &[Partition]) {
        let mut released = Vec::new();
        for Partition(partition) in partitions {
            if let Some(owned) = self.partitions.get_mut(partition).filter(|owned| owned.phase == Phase::Revoking) {
                owned.phase = Phase::Released;
                released.push(*partition);
            }
        }
        self.void(&released);
    }
}
