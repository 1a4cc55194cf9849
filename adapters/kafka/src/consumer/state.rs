use std::collections::{BTreeMap, HashMap, VecDeque};

use partitura_adapter_kit::{Index, TokenSlab};
use partitura_broker::{AckToken, Assignment, Credit, Delivery, Error, Event, Message, Partition, TopicName};

use super::log::Log;
use crate::position::Position;

/// The most messages of one event.
const BATCH: usize = 1_000;
/// How much of a topic is read ahead of the credit.
const AHEAD: usize = 20_000;
const BYTES_AHEAD: usize = 16 << 20;

/// What a consumer owns and holds. The polling thread fills it, the task that calls `next` empties it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) topics: Vec<Topic>,
    partitions: BTreeMap<u32, Owned>,
    epochs: HashMap<u32, u32>,
    slab: TokenSlab<Held>,
    notices: VecDeque<Event>,
    /// Which partition comes first next time.
    turn: u32,
    credit: Credit,
    /// Settlements so far, and how many of them the brokers have.
    pub(super) settled: u64,
    pub(super) committed: u64,
    pub(super) joined: bool,
    pub(super) end: Option<Error>,
}

/// One of the consumer's topics: what is out, and what waits to be given out.
#[derive(Debug)]
pub(super) struct Topic {
    name: TopicName,
    out: Amount,
    ready: Amount,
    pub(super) paused: bool,
}

impl Topic {
    pub(super) fn is_full(&self) -> bool {
        self.ready.messages >= AHEAD || self.ready.bytes >= BYTES_AHEAD
    }

    /// Whether fetching is worth while again.
    pub(super) fn is_low(&self) -> bool {
        self.ready.messages <= AHEAD / 2 && self.ready.bytes <= BYTES_AHEAD / 2
    }
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
    logs: Vec<Log>,
}

/// How far the ownership of a partition has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The brokers do not know yet that an owner is at work.
    Opening,
    /// They do, and the consumer has not been told.
    Untold,
    /// It is the consumer's.
    Owned,
    /// The consumer was asked to give it back.
    Revoking,
    /// It did, or may do nothing more with it.
    Released,
}

#[derive(Debug)]
struct Held {
    topic: usize,
    index: Index,
    size: usize,
}

impl State {
    /// The names of its topics, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &TopicName> {
        self.topics.iter().map(|topic| &topic.name)
    }

    pub(super) fn new(consumer: u32, topics: Vec<TopicName>, credit: Credit) -> Self {
        let topic = |name| Topic { name, out: Amount::default(), ready: Amount::default(), paused: false };
        Self {
            topics: topics.into_iter().map(topic).collect(),
            partitions: BTreeMap::new(),
            epochs: HashMap::new(),
            slab: TokenSlab::new(consumer),
            notices: VecDeque::new(),
            turn: 0,
            credit,
            settled: 0,
            committed: 0,
            joined: false,
            end: None,
        }
    }

    // What the polling thread does.

    /// Takes over a partition; nothing of it is given out before it is [opened](Self::opened).
    pub(super) fn take_over(&mut self, partition: u32, logs: Vec<Log>) {
        let epoch = self.epochs.entry(partition).and_modify(|epoch| *epoch += 1).or_insert(1);
        self.partitions.insert(partition, Owned { epoch: *epoch, phase: Phase::Opening, logs });
    }

    /// The brokers know that an owner is at work in all partitions for which this was committed.
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

    /// Takes up a message that was fetched; one of a partition that is not owned any more is dropped.
    pub(super) fn arrive(&mut self, topic: usize, partition: u32, offset: i64, message: Message) {
        let Some(owned) = self.partitions.get_mut(&partition).filter(|owned| owned.phase < Phase::Revoking) else {
            return;
        };
        let size = message.size();
        if owned.logs.get_mut(topic).is_some_and(|log| log.arrive(offset, message)) {
            self.topics[topic].ready.add(1, size);
        }
    }

    /// Whether so much of a topic waits that no more should be fetched.
    pub(super) fn is_full(&self) -> bool {
        self.topics.iter().any(|topic| !topic.paused && topic.is_full())
    }

    /// Begins to give partitions back. Gives back those about which the consumer has to be asked.
    pub(super) fn revoke(&mut self, partitions: &[u32], within: std::time::Duration) -> Vec<u32> {
        self.withdraw(partitions);
        let mut asked = Vec::new();
        for partition in partitions {
            self.drop_ready(*partition);
            if let Some(owned) = self.partitions.get_mut(partition) {
                // Of what it was not told, the consumer has nothing to give back.
                let told = owned.phase == Phase::Owned;
                owned.phase = if told { Phase::Revoking } else { Phase::Released };
                asked.extend(told.then_some(*partition));
            }
        }
        if !asked.is_empty() {
            let partitions = asked.iter().copied().map(Partition).collect();
            self.notices.push_back(Event::Revoking { partitions, within });
        }
        asked
    }

    /// Takes partitions away. The consumer is told of those that it still has.
    pub(super) fn lose(&mut self, partitions: &[u32]) {
        self.withdraw(partitions);
        let mut lost = Vec::new();
        for partition in partitions {
            self.drop_ready(*partition);
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

    /// Forgets partitions that somebody else may own from now on.
    pub(super) fn forget(&mut self, partitions: &[u32]) {
        for partition in partitions {
            self.drop_ready(*partition);
            self.partitions.remove(partition);
        }
        self.void(partitions);
    }

    pub(super) fn owned(&self) -> Vec<u32> {
        self.partitions.keys().copied().collect()
    }

    /// Whether the consumer still has to release some of these.
    pub(super) fn awaits(&self, partitions: &[u32]) -> bool {
        partitions.iter().any(|p| self.partitions.get(p).is_some_and(|owned| owned.phase == Phase::Revoking))
    }

    /// What has changed since it was last asked for, to be committed: topic, partition, position.
    pub(super) fn changes(&mut self) -> Vec<(usize, u32, Position)> {
        self.collect(|log| std::mem::take(&mut log.dirty), None)
    }

    /// The last word on these partitions.
    pub(super) fn closing(&mut self, partitions: &[u32]) -> Vec<(usize, u32, Position)> {
        self.collect(|_| true, Some(partitions))
    }

    fn collect(
        &mut self,
        mut wanted: impl FnMut(&mut Log) -> bool,
        last: Option<&[u32]>,
    ) -> Vec<(usize, u32, Position)> {
        let mut changes = Vec::new();
        for (partition, owned) in &mut self.partitions {
            if last.is_some_and(|last| !last.contains(partition)) {
                continue;
            }
            for (topic, log) in owned.logs.iter_mut().enumerate() {
                if wanted(log) {
                    changes.push((topic, *partition, log.position(last.is_none())));
                }
            }
        }
        changes
    }

    /// A commit failed: its content is to be committed again.
    pub(super) fn undo(&mut self, positions: &[(usize, u32, Position)]) {
        for (topic, partition, _) in positions {
            if let Some(log) = self.partitions.get_mut(partition).and_then(|owned| owned.logs.get_mut(*topic)) {
                log.dirty = true;
            }
        }
    }

    /// Withdraws what the consumer was not told yet.
    fn withdraw(&mut self, partitions: &[u32]) {
        for notice in &mut self.notices {
            if let Event::Assigned(assigned) = notice {
                assigned.retain(|a| !partitions.contains(&a.partition.0));
            }
        }
        self.notices.retain(|notice| !matches!(notice, Event::Assigned(assigned) if assigned.is_empty()));
    }

    fn drop_ready(&mut self, partition: u32) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        for (log, topic) in owned.logs.iter_mut().zip(&mut self.topics) {
            let (messages, bytes) = log.clear();
            topic.ready.take(messages, bytes);
        }
    }

    /// Makes the tokens of these partitions stale.
    fn void(&mut self, partitions: &[u32]) {
        for held in self.slab.take_unless(|partition, _| !partitions.contains(&partition.0)) {
            self.topics[held.topic].out.take(1, held.size);
        }
    }

    // What the consumer does.

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
        let Self { partitions, topics, slab, credit, .. } = self;
        let Some(owned) = partitions.get_mut(&partition).filter(|owned| owned.phase == Phase::Owned) else { return };
        for (at, (log, topic)) in owned.logs.iter_mut().zip(topics).enumerate() {
            while deliveries.len() < BATCH {
                let (messages, bytes) = log.skip();
                topic.ready.take(messages, bytes);
                let Some(size) = log.peek().map(Message::size) else { break };
                let fits = topic.out.messages < credit.messages.get() && topic.out.bytes + size <= credit.bytes.get();
                if (topic.out.messages > 0 && !fits) || log.is_crowded() {
                    break;
                }
                let Some((message, index, redelivered)) = log.deliver() else { break };
                topic.ready.take(1, size);
                topic.out.add(1, size);
                let token = slab.insert(Partition(partition), owned.epoch, Held { topic: at, index, size });
                deliveries.push(Delivery { message, partition: Partition(partition), redelivered, token });
            }
        }
    }

    /// Settles; gives back how many of the tokens were stale.
    pub(super) fn settle(&mut self, tokens: &[AckToken]) -> u64 {
        let mut stale = 0;
        for token in tokens {
            let Some(held) = self.slab.remove(token) else {
                stale += 1;
                continue;
            };
            self.topics[held.topic].out.take(1, held.size);
            let log = self.partitions.get_mut(&token.partition.0).and_then(|owned| owned.logs.get_mut(held.topic));
            if log.is_some_and(|log| log.settle(held.index)) {
                self.settled += 1;
            }
        }
        stale
    }

    /// Gives back partitions that are being revoked.
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
