use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use partitura_broker::{Message, Ordering, Timestamp, TopicKind};

/// A topic, with its messages.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) kind: TopicKind,
    pub(crate) ordering: Ordering,
    pub(crate) queues: Vec<Queue>,
    /// The one subscription of a queue.
    pub(crate) group: Option<usize>,
}

/// One partition of a queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) next: u64,
    /// In the order in which they are delivered.
    pub(crate) stored: BTreeMap<u64, Stored>,
    /// Not due yet.
    pub(crate) delayed: BTreeMap<(Timestamp, u64), Message>,
}

/// A message in a queue.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) message: Message,
    pub(crate) visible_at: u64,
    /// With a consumer.
    pub(crate) out: bool,
    pub(crate) delivered: u32,
}

impl Queue {
    pub(crate) fn push(&mut self, message: Message, visible_at: u64) {
        self.next += 1;
        self.stored.insert(self.next, Stored { message, visible_at, out: false, delivered: 0 });
    }

    /// A message that is due joins the order of its key.
    pub(crate) fn promote(&mut self, wall: Timestamp, now: u64) {
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= wall) {
            let message = entry.remove();
            self.push(message, now);
        }
    }

    /// The time at which the next message will be ready, in milliseconds of the world.
    pub(crate) fn next_at(&self, wall: Timestamp, now: u64) -> Option<u64> {
        let visible = self.stored.values().filter(|stored| !stored.out && stored.visible_at > now);
        let due = self.delayed.keys().next().map(|(due, _)| now + due.since(wall).as_millis() as u64);
        visible.map(|stored| stored.visible_at).chain(due).min()
    }

    /// The next message to deliver. `passed_over` are keys that wait; `overtake` is a bug.
    pub(crate) fn deliverable(&self, now: u64, passed_over: &mut BTreeSet<Bytes>, overtake: bool) -> Option<u64> {
        let candidates = self.stored.iter().filter(|(_, stored)| !stored.out);
        let mut visible = candidates.filter(|(_, stored)| match &stored.message.key {
            None => stored.visible_at <= now,
            Some(key) if passed_over.contains(key) => false,
            Some(_) if stored.visible_at <= now => true,
            Some(key) => {
                // Nothing of its key may overtake it.
                passed_over.insert(key.clone());
                false
            }
        });
        if overtake {
            return visible.next_back().map(|(seq, _)| *seq);
        }
        visible.next().map(|(seq, _)| *seq)
    }
}
