use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use partitura_adapter_kit::Backoff;
use partitura_broker::Message;

use super::memory::Memory;

/// The pause after a failure, before a message is published again or the forwarder is started again.
pub(super) const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(30) };

/// A waiting message. Messages that are due at the same time are in the order of their arrival.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Due {
    /// The time of its publication, in milliseconds.
    pub(super) at: u64,
    /// The offset at which it waits.
    pub(super) offset: i64,
}

/// The memory that the contents of waiting messages may take on a connection, and the memory that each partition
/// may take in any case.
const BUDGET: usize = 64 << 20;
const LEAST: usize = 256 << 10;
/// The memory of a message beside its contents.
const OVERHEAD: usize = 512;
/// The largest number of messages of a partition that are on their way to their topic, and of their bytes.
const PUBLISHING: usize = 1_000;
const BYTES_PUBLISHING: usize = 8 << 20;

/// The messages that wait in one partition.
///
/// All of them are in the index. Those that fall due first, up to the *horizon*, have their contents in memory.
#[derive(Debug)]
pub(super) struct DelayIndex {
    index: BTreeSet<Due>,
    contents: BTreeMap<Due, Message>,
    /// The last message with its contents in memory, if they are not all in memory. Messages on their way are not
    /// counted.
    horizon: Option<Due>,
    /// The messages on their way to their topic.
    publishing: HashMap<Due, Message>,
    bytes_publishing: usize,
    /// The bytes of contents, including those of messages on their way.
    bytes: usize,
    memory: Memory,
    /// The number of messages that were read, and of their bytes.
    seen: (usize, usize),
    /// Whether the partition was read to its end. Before, a tombstone may still come.
    pub(super) complete: bool,
    /// Whether contents are being read again.
    pub(super) reloading: bool,
    /// The offset that is read next.
    pub(super) next: i64,
    /// The refused messages by offset, and the number of refusals of each.
    refused: HashMap<i64, u32>,
    /// The latest due time of a message that the former owner may have published.
    former_until: u64,
    /// The messages by offset that this owner has sent, without a confirm.
    unconfirmed: HashSet<i64>,
    /// The number of failures, and the time until which no message is published.
    failures: u32,
    blocked: Option<Instant>,
}

impl DelayIndex {
    /// The index of a partition that is taken over now, and read from `next`.
    pub(super) fn new(memory: Memory, next: i64, now: u64) -> Self {
        Self {
            index: BTreeSet::new(),
            contents: BTreeMap::new(),
            horizon: None,
            publishing: HashMap::new(),
            bytes_publishing: 0,
            bytes: 0,
            memory,
            seen: (0, 0),
            complete: false,
            reloading: false,
            next,
            refused: HashMap::new(),
            former_until: now,
            unconfirmed: HashSet::new(),
            failures: 0,
            blocked: None,
        }
    }

    /// Adds a message of about this size. Its contents are asked for if they are to be kept.
    pub(super) fn insert(&mut self, due: Due, size: usize, contents: impl FnOnce() -> Message) {
        self.seen = (self.seen.0 + 1, self.seen.1 + size + OVERHEAD);
        self.put(due, contents);
    }

    fn put(&mut self, due: Due, contents: impl FnOnce() -> Message) {
        if self.index.insert(due) && self.horizon.is_none_or(|horizon| due <= horizon) {
            self.keep(due, contents());
            self.evict();
        }
    }

    /// Puts contents back that were read again.
    pub(super) fn restore(&mut self, due: Due, contents: Message) {
        if self.index.contains(&due) && !self.contents.contains_key(&due) {
            self.keep(due, contents);
        }
    }

    /// Removes a message that was published, or does not exist any more.
    pub(super) fn remove(&mut self, due: Due) {
        self.index.remove(&due);
        self.refused.remove(&due.offset);
        self.unconfirmed.remove(&due.offset);
        if let Some(message) = self.contents.remove(&due) {
            self.free(&message);
        }
    }

    fn keep(&mut self, due: Due, message: Message) {
        let size = message.size() + OVERHEAD;
        self.bytes += size;
        self.memory.take(size);
        self.contents.insert(due, message);
    }

    fn free(&mut self, message: &Message) {
        let size = message.size() + OVERHEAD;
        self.bytes = self.bytes.saturating_sub(size);
        self.memory.free(size);
    }

    fn is_full(&self) -> bool {
        self.bytes > LEAST && self.memory.bytes() > BUDGET
    }

    /// Drops the contents that are needed last.
    fn evict(&mut self) {
        while self.is_full()
            && self.contents.len() > 1
            && let Some((_, message)) = self.contents.pop_last()
        {
            self.free(&message);
            self.horizon = self.contents.last_key_value().map(|(due, _)| *due);
        }
    }

    /// The messages whose contents are to be read again: the next ones behind the horizon, once most of those
    /// before it have gone.
    pub(super) fn wanted(&self) -> Vec<Due> {
        let room = (BUDGET.saturating_sub(self.memory.bytes()) / 4).max(LEAST);
        let waits = !self.complete || self.reloading || self.bytes > room / 4;
        let Some(horizon) = self.horizon.filter(|_| !waits) else { return Vec::new() };
        let beyond = self.index.range((Bound::Excluded(horizon), Bound::Unbounded));
        beyond.take((room / self.mean()).max(1)).copied().collect()
    }

    /// The mean size of a message.
    pub(super) fn mean(&self) -> usize {
        self.seen.1.checked_div(self.seen.0).unwrap_or(OVERHEAD)
    }

    /// Takes note that contents were read again up to here. Messages that do not exist any more have been removed.
    pub(super) fn reloaded(&mut self, up_to: Due) {
        self.reloading = false;
        // Other messages may have been added in between meanwhile.
        let from = self.horizon.map_or(Bound::Unbounded, Bound::Excluded);
        let there = |due: &&Due| **due <= up_to && self.contents.contains_key(due);
        let last = self.index.range((from, Bound::Unbounded)).take_while(there).last().copied();
        let horizon = last.or(self.horizon);
        self.horizon = horizon.filter(|horizon| self.index.last().is_some_and(|last| last > horizon));
    }

    /// The time of the next publication, if one is possible.
    pub(super) fn next_due(&self, now: Instant) -> Option<u64> {
        if !self.complete || self.is_busy() || self.blocked.is_some_and(|until| now < until) {
            return None;
        }
        let first = self.index.first()?;
        self.contents.contains_key(first).then_some(first.at)
    }

    fn is_busy(&self) -> bool {
        self.publishing.len() >= PUBLISHING || self.bytes_publishing >= BYTES_PUBLISHING
    }

    pub(super) fn is_publishing(&self) -> bool {
        !self.publishing.is_empty()
    }

    /// The next message that is due.
    pub(super) fn due(&self, now: u64) -> Option<(Due, &Message)> {
        let due = self.next_due(Instant::now()).filter(|due| *due <= now);
        let due = due.and_then(|_| self.index.first().copied())?;
        self.contents.get(&due).map(|message| (due, message))
    }

    /// Whether a message may have been published before: by the former owner, which may have died before it wrote the
    /// tombstone, or by this one, which got no confirm.
    pub(super) fn is_repeated(&self, due: Due) -> bool {
        due.at <= self.former_until || self.unconfirmed.contains(&due.offset)
    }

    /// Takes note that a message is on its way.
    pub(super) fn publish(&mut self, due: Due) {
        self.index.remove(&due);
        if let Some(message) = self.contents.remove(&due) {
            self.bytes_publishing += message.size();
            self.publishing.insert(due, message);
        }
    }

    /// Takes note that a message was confirmed, and returns it.
    pub(super) fn confirmed(&mut self, due: Due) -> Option<Message> {
        let message = self.publishing.remove(&due)?;
        self.bytes_publishing = self.bytes_publishing.saturating_sub(message.size());
        self.free(&message);
        self.refused.remove(&due.offset);
        self.unconfirmed.remove(&due.offset);
        (self.failures, self.blocked) = (0, None);
        Some(message)
    }

    /// Puts a message back that was refused, while others would not be. Returns the wait before it is published
    /// again.
    pub(super) fn set_aside(&mut self, due: Due, now: u64) -> Duration {
        let times = self.refused.entry(due.offset).and_modify(|times| *times += 1).or_insert(1);
        let wait = BACKOFF.delay(*times, u64::MAX);
        let at = now + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 2);
        self.put_back(due, Due { at, ..due });
        wait
    }

    /// Puts a message back that was refused, as others would be. The partition waits. Returns the wait, if it is
    /// new.
    pub(super) fn block(&mut self, due: Due) -> Option<Duration> {
        self.put_back(due, due);
        self.stop(Instant::now())
    }

    /// Publishes no message for a while. Returns the wait, if it is new: messages on their way fail together.
    pub(super) fn stop(&mut self, now: Instant) -> Option<Duration> {
        if self.blocked.is_some_and(|until| now < until) {
            return None;
        }
        self.failures += 1;
        let wait = BACKOFF.delay(self.failures, u64::MAX);
        self.blocked = Some(now + wait);
        Some(wait)
    }

    fn put_back(&mut self, due: Due, at: Due) {
        let Some(message) = self.publishing.remove(&due) else { return };
        self.bytes_publishing = self.bytes_publishing.saturating_sub(message.size());
        self.free(&message);
        self.unconfirmed.insert(due.offset);
        self.put(at, || message);
    }

    /// The lowest offset that waits or is on its way; else the one that is read next. Looks at all of them.
    pub(super) fn ack_floor(&self) -> i64 {
        let waiting = self.index.iter().chain(self.publishing.keys()).map(|due| due.offset);
        waiting.min().unwrap_or(self.next).min(self.next)
    }
}

impl Drop for DelayIndex {
    fn drop(&mut self) {
        self.memory.free(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use partitura_broker::TopicName;

    use super::*;

    fn due(at: u64, offset: i64) -> Due {
        Due { at, offset }
    }

    fn message(size: usize) -> Message {
        Message::new(TopicName::new("t").expect("a valid name"), "id", vec![0; size])
    }

    #[test]
    fn the_next_messages_have_their_contents_and_memory_is_bounded() {
        const SIZE: usize = 100_000;
        let memory = Memory::default();
        let mut waiting = DelayIndex::new(memory.clone(), 0, 0);
        // The last ones come first.
        for offset in 0..2_000_i64 {
            waiting.insert(due(10_000 - offset as u64, offset), SIZE, || message(SIZE));
        }
        waiting.complete = true;
        assert!(memory.bytes() <= BUDGET + 2 * SIZE);
        assert_eq!((waiting.index.len(), waiting.next_due(Instant::now())), (2_000, Some(8_001)));
        assert!(
            waiting.contents.len() > 500
                && waiting.contents.keys().eq(waiting.index.iter().take(waiting.contents.len()))
        );
        let mut last = 0;
        let mut count = 0;
        while count < 2_000 {
            while let Some((due, _)) = waiting.due(u64::MAX) {
                assert!(due.at > last, "in order");
                last = due.at;
                waiting.publish(due);
                waiting.confirmed(due);
                count += 1;
            }
            let wanted = waiting.wanted();
            wanted.iter().for_each(|due| waiting.restore(*due, message(SIZE)));
            if let Some(up_to) = wanted.last() {
                waiting.reloaded(*up_to);
            }
            assert!(memory.bytes() <= BUDGET + 2 * SIZE);
        }
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn a_message_that_comes_while_contents_are_read_again_does_not_count_as_read() {
        let mut waiting = DelayIndex::new(Memory::default(), 0, 0);
        waiting.complete = true;
        (waiting.horizon, waiting.reloading) = (Some(due(1, 0)), true);
        for offset in 1..=3 {
            waiting.insert(due(10 * offset as u64, offset), 1, || message(1));
        }
        waiting.restore(due(10, 1), message(1));
        waiting.restore(due(30, 3), message(1));
        waiting.reloaded(due(30, 3));
        assert_eq!((waiting.horizon, waiting.wanted()), (Some(due(10, 1)), vec![due(20, 2), due(30, 3)]));
        waiting.restore(due(20, 2), message(1));
        waiting.reloaded(due(30, 3));
        assert_eq!((waiting.horizon, waiting.wanted()), (None, vec![]));
    }

    #[test]
    fn a_refused_message_holds_up_no_other_and_a_partition_that_refuses_all_waits() {
        let mut waiting = DelayIndex::new(Memory::default(), 5, 0);
        waiting.complete = true;
        for offset in 0..3 {
            waiting.insert(due(1, offset), 1, || message(1));
        }
        waiting.publish(due(1, 0));
        assert!(waiting.set_aside(due(1, 0), 100) > BACKOFF.first / 2);
        assert_eq!(waiting.due(100).map(|(due, _)| due), Some(due(1, 1)));
        waiting.publish(due(1, 1));
        waiting.publish(due(1, 2));
        assert!(waiting.block(due(1, 1)).is_some());
        assert!(waiting.block(due(1, 2)).is_none(), "reported once");
        assert_eq!(waiting.due(u64::MAX).map(|(due, _)| due), None);
        assert_eq!(waiting.ack_floor(), 0);
        waiting.blocked = None;
        assert_eq!(waiting.due(100).map(|(due, _)| due), Some(due(1, 1)));
    }

    #[test]
    fn a_message_is_repeated_that_was_due_at_the_takeover_or_sent_without_a_confirm() {
        let mut waiting = DelayIndex::new(Memory::default(), 0, 100);
        waiting.complete = true;
        let [before, after] = [due(100, 0), due(101, 1)];
        for due in [before, after] {
            waiting.insert(due, 1, || message(1));
        }
        assert!(waiting.is_repeated(before) && !waiting.is_repeated(after));
        waiting.publish(before);
        waiting.publish(after);
        waiting.block(after);
        assert!(waiting.is_repeated(after));
        waiting.publish(after);
        waiting.confirmed(after);
        assert!(waiting.unconfirmed.is_empty());
    }

    #[test]
    fn the_ack_floor_is_the_lowest_offset_that_waits_or_is_on_its_way() {
        let mut waiting = DelayIndex::new(Memory::default(), 10, 0);
        assert_eq!(waiting.ack_floor(), 10);
        waiting.complete = true;
        waiting.insert(due(7, 3), 1, || message(1));
        waiting.insert(due(5, 8), 1, || message(1));
        waiting.insert(due(6, 2), 1, || message(1));
        assert_eq!(waiting.ack_floor(), 2);
        waiting.publish(due(5, 8));
        waiting.publish(due(6, 2));
        assert_eq!(waiting.ack_floor(), 2);
        waiting.confirmed(due(6, 2));
        waiting.remove(due(7, 3));
        assert_eq!(waiting.ack_floor(), 8);
    }
}
