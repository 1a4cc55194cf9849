use std::collections::{BTreeSet, VecDeque};

use futures::FutureExt;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use tokio::time::Instant;

/// The channel's number of a delivery: 1, 2, 3, …
pub(crate) type Tag = u64;

/// The settled deliveries of a channel, which are acknowledged in as few frames as possible.
#[derive(Debug, Default)]
pub(crate) struct Settlement {
    /// Every delivery up to this one is settled.
    ack_floor: Tag,
    above: BTreeSet<Tag>,
    /// The deliveries that came and are not all settled, oldest first.
    arrivals: VecDeque<Arrival>,
}

/// Deliveries that came together.
#[derive(Debug)]
struct Arrival {
    last: Tag,
    /// They came at this moment or later.
    since: Instant,
}

/// The acknowledgements to send.
#[derive(Debug, Default, PartialEq, Eq)]
struct Acks {
    /// Everything up to this one, which was not acknowledged before.
    upto: Option<Tag>,
    single: Vec<Tag>,
}

impl Settlement {
    /// Settles deliveries, in any order. Does not wait: the frames are queued. An error shows later.
    pub(crate) fn acknowledge(&mut self, channel: &Channel, tags: Vec<Tag>) {
        let acks = self.add(tags);
        let single = acks.single.into_iter().map(|tag| (tag, false));
        for (tag, multiple) in acks.upto.map(|tag| (tag, true)).into_iter().chain(single) {
            // The first poll queues the frame. Later polls would wait until it is written.
            let _ = channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never();
        }
    }

    /// Takes note that deliveries up to `last` have come, at `since` or later.
    pub(crate) fn came(&mut self, last: Tag, since: Instant) {
        self.arrivals.push_back(Arrival { last, since });
    }

    /// The earliest moment at which the oldest unsettled delivery may have come.
    pub(crate) fn held_since(&self) -> Option<Instant> {
        self.arrivals.front().map(|arrival| arrival.since)
    }

    fn add(&mut self, mut tags: Vec<Tag>) -> Acks {
        self.above.extend(&tags);
        while self.above.remove(&(self.ack_floor + 1)) {
            self.ack_floor += 1;
        }
        while self.arrivals.front().is_some_and(|arrival| arrival.last <= self.ack_floor) {
            self.arrivals.pop_front();
        }
        tags.sort_unstable();
        let single = tags.split_off(tags.partition_point(|tag| *tag <= self.ack_floor));
        Acks { upto: tags.pop(), single }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settlements_without_a_gap_are_one_frame() {
        let mut settled = Settlement::default();
        assert_eq!(settled.add(vec![3, 1, 2]), Acks { upto: Some(3), single: vec![] });
        assert_eq!(settled.add(vec![6, 5]), Acks { upto: None, single: vec![5, 6] });
        // 5 and 6 are acknowledged already, and the broker refuses a tag that comes twice.
        assert_eq!(settled.add(vec![8, 4]), Acks { upto: Some(4), single: vec![8] });
        assert_eq!(settled.add(vec![7]), Acks { upto: Some(7), single: vec![] });
        assert_eq!(settled.add(vec![9]), Acks { upto: Some(9), single: vec![] });
        assert!(settled.above.is_empty());
    }

    #[test]
    fn the_oldest_unsettled_delivery_is_known_whatever_is_settled_after_it() {
        let (mut settled, start) = (Settlement::default(), Instant::now());
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
