use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use crate::birth::Birth;
use crate::position::Position;

/// The delivered and settled messages of one topic in one owned partition.
///
/// It keeps only unsettled offsets: all others between them are settled. So its size is that of the messages that
/// the consumer holds, even if many messages behind a slow one are settled.
#[derive(Debug)]
pub(super) struct Progress {
    /// The birth of the topic.
    birth: Birth,
    /// The offset where this owner began.
    start: i64,
    /// The ranges above it that earlier owners settled, ascending.
    settled: VecDeque<Range<i64>>,
    /// The offset below which an earlier owner may have delivered the messages.
    replayed: i64,
    /// The offset behind the last message that any owner delivered.
    high: i64,
    /// The offset behind the last message that was read.
    next: i64,
    /// The offsets that were delivered and are not settled, ascending.
    unsettled: BTreeSet<i64>,
    /// Whether the topic returned offsets that had been read before.
    rewound: bool,
    /// Whether there is a change to commit.
    pub(super) dirty: bool,
}

/// A position to be committed.
#[derive(Debug)]
pub(super) struct PartitionPosition {
    /// The index of the topic.
    pub(super) topic: usize,
    pub(super) partition: u32,
    pub(super) position: Position,
}

impl Progress {
    /// Begins at `position`. `end` is the end of the log at this time: an owner that crashed may have delivered all
    /// messages up to there.
    pub(super) fn new(position: Position, end: i64) -> Self {
        let replayed = if position.open { end.max(position.high) } else { position.high };
        Self {
            birth: position.birth,
            start: position.offset,
            settled: position.settled.into(),
            replayed,
            high: position.high,
            next: position.offset,
            unsettled: BTreeSet::new(),
            rewound: false,
            dirty: true,
        }
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    pub(super) fn birth(&self) -> Birth {
        self.birth
    }

    /// Whether its offsets belong to a deleted topic of the same name.
    pub(super) fn is_rewound(&self) -> bool {
        self.rewound
    }

    /// Whether the message at this offset is to be delivered. It is not if it was read before, or if an earlier
    /// owner settled it.
    pub(super) fn wants(&mut self, offset: i64) -> bool {
        if offset < self.next {
            // A log is read forwards. So this is another log, which ended before the requested offset.
            self.rewound = true;
            return false;
        }
        while self.settled.front().is_some_and(|range| range.end <= offset) {
            self.settled.pop_front();
        }
        if self.settled.front().is_none_or(|range| range.start > offset) {
            return true;
        }
        self.next = offset + 1;
        self.dirty = true;
        false
    }

    /// Takes note of the delivery of this message. Returns whether it may have been delivered before.
    pub(super) fn deliver(&mut self, offset: i64) -> bool {
        self.next = offset + 1;
        self.high = self.high.max(self.next);
        self.unsettled.insert(offset);
        offset < self.replayed
    }

    /// Returns `false` if it was settled before.
    pub(super) fn settle(&mut self, offset: i64) -> bool {
        let settled = self.unsettled.remove(&offset);
        self.dirty |= settled;
        settled
    }

    /// The position to commit. `open`: more messages may be delivered before the next commit.
    pub(super) fn position(&self, open: bool) -> Position {
        let offset = self.unsettled.first().copied().unwrap_or(self.next);
        let (mut settled, mut at): (Vec<Range<i64>>, i64) = (Vec::new(), offset);
        for unsettled in self.unsettled.iter().copied().chain([self.next]) {
            if at < unsettled {
                settled.push(at..unsettled);
            }
            at = unsettled + 1;
        }
        // Ranges that earlier owners settled beyond the read messages.
        for range in &self.settled {
            let (start, end) = (range.start.max(self.next), range.end);
            match settled.last_mut() {
                Some(last) if last.end == start => last.end = end.max(start),
                _ if start < end => settled.push(start..end),
                _ => {}
            }
        }
        Position { birth: self.birth, offset, high: self.high.max(self.replayed), open, settled }
    }

    /// Whether the next commit is so long that no more messages should be delivered before one is settled.
    pub(super) fn is_crowded(&self) -> bool {
        // Each unsettled offset costs two runs: a few always fit.
        self.unsettled.len() > 400 && self.position(true).is_crowded()
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "the elements are ranges of offsets")]
mod tests {
    use super::*;

    /// Reads the messages at these offsets. Returns the delivered ones, and whether each may have been delivered
    /// before.
    fn deliver(progress: &mut Progress, offsets: Range<i64>) -> Vec<(i64, bool)> {
        let mut all = Vec::new();
        for offset in offsets {
            if progress.wants(offset) {
                let again = progress.deliver(offset);
                all.push((offset, again));
            }
        }
        all
    }

    fn fresh(offset: i64) -> Position {
        Position::fresh(Birth::UNKNOWN, offset)
    }

    #[test]
    fn a_successor_gets_the_unsettled_messages_and_no_others() {
        let mut first = Progress::new(fresh(10), 20);
        let held = deliver(&mut first, 10..20);
        assert!(held.iter().all(|(_, again)| !again), "a first delivery");
        for which in [0, 1, 4, 6] {
            assert!(first.settle(held[which].0));
            assert!(!first.settle(held[which].0), "settled twice");
        }
        let left = first.position(false);
        assert_eq!(left, Position { offset: 12, high: 20, settled: vec![14..15, 16..17], ..fresh(0) });

        let mut second = Progress::new(left, 23);
        let got = deliver(&mut second, 12..23);
        let again: Vec<i64> = got.iter().filter(|(_, again)| *again).map(|(offset, _)| *offset).collect();
        assert_eq!(again, [12, 13, 15, 17, 18, 19]);
        assert_eq!(got.len(), again.len() + 3, "later messages are delivered for the first time");
        for (offset, _) in &got {
            second.settle(*offset);
        }
        assert_eq!(second.position(false), fresh(23));
    }

    #[test]
    fn messages_that_an_earlier_owner_settled_are_remembered_until_they_are_reached() {
        let before = Position { high: 9, open: true, settled: vec![5..7, 8..9], ..fresh(3) };
        let mut progress = Progress::new(before.clone(), 6);
        assert_eq!(progress.position(true).settled, before.settled);
        let got = deliver(&mut progress, 3..6);
        assert_eq!(progress.position(true).settled, before.settled);
        progress.settle(got[0].0);
        progress.settle(got[1].0);
        assert_eq!((progress.position(true).offset, progress.position(true).settled), (6, vec![6..7, 8..9]));
    }

    #[test]
    fn after_a_crash_all_existing_messages_may_have_been_delivered() {
        let mut progress = Progress::new(Position { open: true, ..fresh(0) }, 2);
        let again: Vec<bool> = deliver(&mut progress, 0..3).into_iter().map(|(_, again)| again).collect();
        assert_eq!(again, [true, true, false]);
    }

    #[test]
    fn a_message_that_was_read_is_not_read_again_and_shows_that_the_log_is_another() {
        let mut progress = Progress::new(Position { settled: vec![1..2], ..fresh(0) }, 3);
        assert_eq!(deliver(&mut progress, 0..3).len(), 2);
        assert!(!progress.is_rewound());
        assert!((0..3).all(|offset| !progress.wants(offset)));
        assert!(progress.is_rewound() && progress.wants(3));
    }

    #[test]
    fn settled_messages_behind_an_unsettled_one_take_no_room() {
        const MANY: i64 = 1_000_000;
        let mut progress = Progress::new(fresh(0), MANY);
        for offset in 0..MANY {
            assert!(progress.wants(offset));
            progress.deliver(offset);
            assert!(offset == 0 || progress.settle(offset));
        }
        assert_eq!(progress.unsettled.len(), 1);
        assert_eq!((progress.position(true).offset, progress.position(true).settled), (0, vec![1..MANY]));
    }
}
