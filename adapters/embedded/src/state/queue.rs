use std::collections::VecDeque;

use partitura_broker::{Message, TopicName};

/// The messages of one topic and partition that one subscription may have now, in order.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) topic: TopicName,
    pub(super) group: u32,
    pub(super) partition: u32,
    ready: VecDeque<Ready>,
}

/// A message that may be delivered. Its content is in memory, or else in the storage under its sequence.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) place: Place,
    pub(super) size: u32,
    pub(super) redelivered: bool,
    pub(super) content: Option<Box<Message>>,
}

/// The place of a message in its queue: by the time at which it joined, then by sequence. It is the same before and
/// after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) ready_at: u64,
    pub(crate) seq: u64,
}

/// The place of a message among all queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) queue: u32,
    pub(crate) place: Place,
}

impl Queue {
    pub(super) fn new(topic: TopicName, group: u32, partition: u32) -> Self {
        Self { topic, group, partition, ready: VecDeque::new() }
    }

    pub(super) fn first(&self) -> Option<&Ready> {
        self.ready.front()
    }

    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<Ready> {
        let first = self.ready.pop_front();
        if self.ready.is_empty() && self.ready.capacity() > 4_096 {
            // After a backlog its memory is released.
            self.ready = VecDeque::new();
        }
        first
    }

    /// Adds a message; nearly always at the end.
    pub(super) fn insert(&mut self, ready: Ready) {
        if self.ready.back().is_none_or(|last| last.place < ready.place) {
            return self.ready.push_back(ready);
        }
        let at = self.ready.partition_point(|other| other.place < ready.place);
        self.ready.insert(at, ready);
    }

    /// Takes back unsettled messages; nearly always before all others.
    pub(super) fn put_back(&mut self, mut back: Vec<Ready>) {
        back.sort_unstable_by_key(|ready| ready.place);
        let in_front = match (back.last(), self.ready.front()) {
            (Some(last), Some(first)) => last.place < first.place,
            _ => true,
        };
        self.ready.reserve(back.len());
        for ready in back.into_iter().rev() {
            self.ready.push_front(ready);
        }
        if !in_front {
            self.ready.make_contiguous().sort_by_key(|ready| ready.place);
        }
    }

    /// The first few messages whose content is not in memory, up to `bytes` bytes; one in any case.
    pub(super) fn absent(&self, count: usize, bytes: usize) -> Vec<Place> {
        let mut left = bytes;
        let mut places = Vec::new();
        for ready in self.ready.iter().take(count).filter(|ready| ready.content.is_none()) {
            if !places.is_empty() && left < ready.size as usize {
                break;
            }
            left = left.saturating_sub(ready.size as usize);
            places.push(ready.place);
        }
        places
    }

    /// Whether this message is here without its content.
    pub(super) fn is_absent(&self, place: Place) -> bool {
        let found = self.ready.binary_search_by_key(&place, |ready| ready.place);
        found.is_ok_and(|at| self.ready[at].content.is_none())
    }

    /// Gives a waiting message its content. `false` where it is no longer waiting for it.
    pub(super) fn fill(&mut self, place: Place, message: Message) -> bool {
        let Ok(at) = self.ready.binary_search_by_key(&place, |ready| ready.place) else { return false };
        let content = &mut self.ready[at].content;
        let absent = content.is_none();
        content.get_or_insert_with(|| Box::new(message));
        absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(ready_at: u64, seq: u64) -> Ready {
        Ready { place: Place { ready_at, seq }, size: 1, redelivered: false, content: None }
    }

    fn seqs(mut queue: Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).map(|ready| ready.place.seq).collect()
    }

    fn queue(of: &[(u64, u64)]) -> Queue {
        let mut queue = Queue::new(TopicName::new("t").unwrap(), 0, 0);
        of.iter().for_each(|(ready_at, seq)| queue.insert(ready(*ready_at, *seq)));
        queue
    }

    #[test]
    fn messages_stand_in_the_order_in_which_they_became_ready() {
        assert_eq!(seqs(queue(&[(1, 2), (1, 3), (5, 1), (4, 9), (1, 1)])), [1, 2, 3, 9, 1]);
    }

    #[test]
    fn a_message_that_comes_back_takes_its_old_place() {
        let mut front = queue(&[(3, 5), (3, 6)]);
        front.put_back(vec![ready(2, 4), ready(1, 3)]);
        assert_eq!(seqs(front), [3, 4, 5, 6]);
        let mut among = queue(&[(3, 5), (9, 6)]);
        among.put_back(vec![ready(7, 2), ready(1, 3)]);
        assert_eq!(seqs(among), [3, 5, 2, 6]);
    }
}
