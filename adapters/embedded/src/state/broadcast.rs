use std::collections::{BTreeMap, VecDeque};

use partitura_broker::{Message, Partition, Timestamp};

/// The number of messages, and of their bytes, that wait for a listener that does not read.
const MESSAGES: usize = 65_536;
const BYTES: usize = 64 << 20;

/// The messages that a listener has not read yet. They are bounded: the oldest are dropped, since a broadcast is not
/// durable.
#[derive(Debug, Default)]
pub(super) struct Feed {
    ready: VecDeque<(Partition, Message)>,
    /// By the time at which they are due, then in the order of publishing.
    delayed: BTreeMap<(Timestamp, u64), (Partition, Message)>,
    bytes: usize,
    count: u64,
    dropped: u64,
}

impl Feed {
    pub(super) fn push(&mut self, partition: Partition, message: Message, now: Timestamp) {
        self.bytes += message.size();
        match message.not_before.filter(|due| *due > now) {
            Some(due) => drop(self.delayed.insert((due, self.count), (partition, message))),
            None => self.ready.push_back((partition, message)),
        }
        self.count += 1;
        while self.bytes > BYTES || self.ready.len() + self.delayed.len() > MESSAGES {
            let oldest = self.ready.pop_front().map(|(_, message)| message);
            let Some(message) = oldest.or_else(|| self.delayed.pop_first().map(|(_, (_, message))| message)) else {
                break;
            };
            self.bytes -= message.size();
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
    pub(super) fn withdraw(
        &mut self,
        due: Timestamp,
        mut which: impl FnMut(&Message) -> bool,
    ) -> Vec<(Partition, Message)> {
        let at: Vec<_> =
            self.delayed.range((due, 0)..=(due, u64::MAX)).map(|(at, (_, message))| (*at, which(message))).collect();
        let mut taken = Vec::new();
        for (at, _) in at.into_iter().filter(|(_, which)| *which) {
            taken.extend(self.delayed.remove(&at));
        }
        self.bytes -= taken.iter().map(|(_, message)| message.size()).sum::<usize>();
        taken
    }

    pub(super) fn next_size(&self) -> Option<usize> {
        self.ready.front().map(|(_, message)| message.size())
    }

    pub(super) fn pop(&mut self) -> Option<(Partition, Message)> {
        let (partition, message) = self.ready.pop_front()?;
        self.bytes -= message.size();
        Some((partition, message))
    }

    /// The number of dropped messages since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}
