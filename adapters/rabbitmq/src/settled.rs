use std::collections::{BTreeSet, VecDeque};

use futures::FutureExt;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use tokio::time::Instant;

/// A delivery as the channel numbers it: 1, 2, 3, …
pub(crate) type Tag = u64;

/// What is settled of a channel's deliveries, to say it in as few frames as possible.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Everything up to here.
    floor: Tag,
    above: BTreeSet<Tag>,
    /// The last of those that came, and since when at most they are held, oldest first.
    came: VecDeque<(Tag, Instant)>,
}

/// What to tell the broker.
#[derive(Debug, Default, PartialEq, Eq)]
struct Acks {
    /// Everything up to this one, which is not acknowledged yet itself.
    upto: Option<Tag>,
    single: Vec<Tag>,
}

impl Settled {
    /// Settles deliveries, in any order. Does not wait: the frames are queued, and whether they arrive shows later.
    pub(crate) fn acknowledge(&mut self, channel: &Channel, tags: Vec<Tag>) {
        let acks = self.add(tags);
        let single = acks.single.into_iter().map(|tag| (tag, false));
        for (tag, multiple) in acks.upto.map(|tag| (tag, true)).into_iter().chain(single) {
            // The first poll queues the frame; the rest would wait until it is written.
            let _ = channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never();
        }
    }

    /// Deliveries up to `last` have come, not before `since`.
    pub(crate) fn came(&mut self, last: Tag, since: Instant) {
        self.came.push_back((last, since));
    }

    /// Since when the oldest is held that is not settled.
    pub(crate) fn held_since(&self) -> Option<Instant> {
        self.came.front().map(|(_, since)| *since)
    }

    fn add(&mut self, mut tags: Vec<Tag>) -> Acks {
        self.above.extend(&tags);
        while self.above.remove(&(self.floor + 1)) {
            self.floor += 1;
        }
        while self.came.front().is_some_and(|(last, _)| *last <= self.floor) {
            self.came.pop_front();
        }
        tags.sort_unstable();
        let single = tags.split_off(tags.partition_point(|tag| *tag <= self.floor));
        Acks { upto: tags.pop(), single }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_without_a_gap_is_one_frame() {
        let mut settled = Settled::default();
        assert_eq!(settled.add(vec![3, 1, 2]), Acks { upto: Some(3), single: vec![] });
        assert_eq!(settled.add(vec![6, 5]), Acks { upto: None, single: vec![5, 6] });
        // 5 and 6 are acknowledged already, and the broker refuses to hear of a tag twice.
        assert_eq!(settled.add(vec![8, 4]), Acks { upto: Some(4), single: vec![8] });
        assert_eq!(settled.add(vec![7]), Acks { upto: Some(7), single: vec![] });
        assert_eq!(settled.add(vec![9]), Acks { upto: Some(9), single: vec![] });
        assert!(settled.above.is_empty());
    }

    #[test]
    fn the_oldest_that_is_held_is_known_whatever_is_settled_behind_it() {
        let (mut settled, start) = (Settled::default(), Instant::now());
        let at = |seconds| start + std::time::Duration::from_secs(seconds);
        assert_eq!(settled.held_since(), None);
        settled.came(2, at(1));
        settled.came(4, at(2));
        settled.add(vec![1, 3, 4]);
        assert_eq!(settled.held_since(), Some(at(1)));
        settled.add(vec![2]);
        assert_eq!(settled.held_since(), None);
        settled.came(5, at(3));
        assert_eq!(settled.held_since(), Some(at(3)));
    }
}
