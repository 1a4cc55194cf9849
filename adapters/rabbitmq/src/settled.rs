use std::collections::BTreeSet;

use futures::FutureExt;
use lapin::Channel;
use lapin::options::BasicAckOptions;

/// A delivery as the channel numbers it: 1, 2, 3, …
pub(crate) type Tag = u64;

/// What is settled of a channel's deliveries, to say it in as few frames as possible.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Everything up to here.
    floor: Tag,
    above: BTreeSet<Tag>,
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

    fn add(&mut self, mut tags: Vec<Tag>) -> Acks {
        self.above.extend(&tags);
        while self.above.remove(&(self.floor + 1)) {
            self.floor += 1;
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
}
