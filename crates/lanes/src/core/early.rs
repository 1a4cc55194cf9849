use std::cmp::Reverse;
use std::collections::BinaryHeap;

use partitura_broker::{Partition, Timestamp};

use super::lane::Entry;

/// The messages that came before they were due.
#[derive(Debug, Default)]
pub(super) struct EarlyMessages {
    waiting: BinaryHeap<Reverse<Early>>,
    arrivals: u64,
}

/// A message that came before it was due. Those of one moment keep the order in which they came.
#[derive(Debug)]
struct Early {
    due: Timestamp,
    number: u64,
    entry: Entry,
}

impl EarlyMessages {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, due: Timestamp, entry: Entry) {
        self.arrivals += 1;
        self.waiting.push(Reverse(Early { due, number: self.arrivals, entry }));
    }

    /// The moment at which the next one is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.peek().map(|Reverse(early)| early.due)
    }

    /// Takes the next message that is due.
    pub(super) fn pop_due(&mut self, wall: Timestamp) -> Option<Entry> {
        self.next_due().filter(|due| *due <= wall)?;
        self.waiting.pop().map(|Reverse(early)| early.entry)
    }

    pub(super) fn forget(&mut self, partition: Partition) {
        self.waiting.retain(|Reverse(early)| early.entry.delivery.partition != partition);
    }
}

impl Early {
    fn order(&self) -> (Timestamp, u64) {
        (self.due, self.number)
    }
}

impl PartialEq for Early {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Early {}

impl PartialOrd for Early {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Early {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}
