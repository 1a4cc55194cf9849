use std::collections::{BTreeMap, VecDeque};

use partitura_broker::{Message, Partition, Timestamp};

/// The number of messages, and of their bytes, that wait for a listener that does not read.
const MESSAGES: usize = 65_536;
const BYTES: usize = 64 << 20;

/// A message for all listeners of its topic.
#[derive(Debug)]
pub(crate) struct Broadcast {
    pub(crate) partition: Partition,
    pub(crate) message: Message,
}

/// The messages that a listener has not read yet. They are bounded: the oldest are dropped, since a broadcast is not
/// durable.
#[derive(Debug, Default)]
pub(super) struct Feed {
    ready: VecDeque<Broadcast>,
    /// By the time at which they are due, then in the order of publishing.
    delayed: BTreeMap<(Timestamp, u64), Broadcast>,
    bytes: usize,
    count: u64,
    dropped: u64,
}

impl Feed {
    pub(super) fn push(&mut self, broadcast: Broadcast, now: Timestamp) {
        self.bytes += broadcast.message.size();
        match broadcast.message.not_before.filter(|due| *due > now) {
            Some(due) => drop(self.delayed.insert((due, self.count), broadcast)),
            None => self.ready.push_back(broadcast),
        }
        self.count += 1;
        while self.bytes > BYTES || self.ready.len() + self.delayed.len() > MESSAGES {
            let oldest = self.ready.pop_front();
            let Some(oldest) = oldest.or_else(|| self.delayed.pop_first().map(|(_, broadcast)| broadcast)) else {
                break;
            };
            self.bytes -= oldest.message.size();
            self.dropped += 1;
        }
    }

    /// Moves messages that are due.
    pub(super) fn fire(&mut self, now: Timestamp) {
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now) {
            self.ready.push_back(first.remove());
        }
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.delayed.keys().next().map(|(due, _)| *due)
    }

    /// Takes back messages that are due at this moment.
    pub(super) fn withdraw(&mut self, due: Timestamp, mut which: impl FnMut(&Message) -> bool) -> Vec<Broadcast> {
        let at: Vec<_> = self
            .delayed
            .range((due, 0)..=(due, u64::MAX))
            .map(|(at, broadcast)| (*at, which(&broadcast.message)))
            .collect();
        let mut taken = Vec::new();
        for (at, _) in at.into_iter().filter(|(_, which)| *which) {
            taken.extend(self.delayed.remove(&at));
        }
        self.bytes -= taken.iter().map(|broadcast| broadcast.message.size()).sum::<usize>();
        taken
    }

    pub(super) fn next_size(&self) -> Option<usize> {
        self.ready.front().map(|broadcast| broadcast.message.size())
    }

    pub(super) fn pop(&mut self) -> Option<Broadcast> {
        let broadcast = self.ready.pop_front()?;
        self.bytes -= broadcast.message.size();
        Some(broadcast)
    }

    /// The number of dropped messages since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}
