use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use partitura_broker::{Message, Partition, Timestamp};

/// How many messages, and bytes of them, wait for a listener that does not read.
const MESSAGES: usize = 65_536;
const BYTES: usize = 64 << 20;

/// What a listener has not read yet. Bounded: the oldest are dropped, for nothing here is durable.
#[derive(Debug, Default)]
pub(super) struct Feed {
    ready: VecDeque<(Partition, Message)>,
    delayed: BinaryHeap<Reverse<Delayed>>,
    bytes: usize,
    count: u64,
    dropped: u64,
}

impl Feed {
    pub(super) fn push(&mut self, partition: Partition, message: Message, now: Timestamp) {
        self.bytes += message.size();
        match message.not_before.filter(|due| *due > now) {
            Some(due) => self.delayed.push(Reverse(Delayed { due, count: self.count, partition, message })),
            None => self.ready.push_back((partition, message)),
        }
        self.count += 1;
        while self.bytes > BYTES || self.ready.len() + self.delayed.len() > MESSAGES {
            let oldest = self.ready.pop_front().map(|(_, message)| message);
            let Some(message) = oldest.or_else(|| self.delayed.pop().map(|first| first.0.message)) else { break };
            self.bytes -= message.size();
            self.dropped += 1;
        }
    }

    /// Moves what has fallen due.
    pub(super) fn fire(&mut self, now: Timestamp) {
        while self.delayed.peek().is_some_and(|first| first.0.due <= now) {
            if let Some(Reverse(first)) = self.delayed.pop() {
                self.ready.push_back((first.partition, first.message));
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.delayed.peek().map(|first| first.0.due)
    }

    pub(super) fn next_size(&self) -> Option<usize> {
        self.ready.front().map(|(_, message)| message.size())
    }

    pub(super) fn pop(&mut self) -> Option<(Partition, Message)> {
        let (partition, message) = self.ready.pop_front()?;
        self.bytes -= message.size();
        Some((partition, message))
    }

    /// How many were dropped since the last time this was asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[derive(Debug)]
struct Delayed {
    due: Timestamp,
    count: u64,
    partition: Partition,
    message: Message,
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.count).cmp(&(other.due, other.count))
    }
}
