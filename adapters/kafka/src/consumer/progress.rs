use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use crate::birth::Birth;
use crate::position::Position;

/// One partition of one topic in the hands of a consumer: what was delivered and settled of it.
///
/// It keeps the offsets that are unsettled, and nothing of those that are settled: whatever lies between two of the former
/// is. So its size is that of what the consumer holds, however much is settled behind one slow message.
#[derive(Debug)]
pub(super) struct Progress {
    /// Of the topic.
    birth: Birth,
    /// Where this owner began.
    start: i64,
    /// What was settled above that by earlier owners, ascending.
    settled: VecDeque<Range<i64>>,
    /// What lies below may have been delivered by an earlier owner.
    replayed: i64,
    /// The offset behind the last that was delivered, by anybody.
    high: i64,
    /// The offset behind the last that was taken up.
    next: i64,
    /// What was delivered and is not settled, ascending.
    unsettled: BTreeSet<i64>,
    /// Whether the topic gave again what lies before what was taken up.
    rewound: bool,
    /// Whether something is to be committed.
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
    /// Begins where `position` ends. `end` is the log's end now, of which an owner that crashed may have delivered all.
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

    /// Whether its offsets are of another topic, which had this one's name and was deleted.
    pub(super) fn is_rewound(&self) -> bool {
        self.rewound
    }

    /// Whether the message at this offset is to be delivered: not if it was taken up before, nor if an earlier owner settled
    /// it.
    pub(super) fn wants(&mut self, offset: i64) -> bool {
        if offset < self.next {
            // A log is read forwards. So it is another, whose end lay before the offset that was asked for.
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

    /// The message at this offset, which is wanted, is delivered. Gives back whether it may have been before.
    pub(super) fn deliver(&mut self, offset: i64) -> bool {
        self.next = offset + 1;
        self.high = self.high.max(self.next);
        self.unsettled.insert(offset);
        offset < self.replayed
    }

    /// `false` where it was settled before.
    pub(super) fn settle(&mut self, offset: i64) -> bool {
        let settled = self.unsettled.remove(&offset);
        self.dirty |= settled;
        settled
    }

    /// What to commit. `open`: more may be delivered before the next commit.
    pub(super) fn position(&self, open: bool) -> Position {
        let offset = self.unsettled.first().copied().unwrap_or(self.next);
        let (mut settled, mut at): (Vec<Range<i64>>, i64) = (Vec::new(), offset);
        for unsettled in self.unsettled.iter().copied().chain([self.next]) {
            if at < unsettled {
                settled.push(at..unsettled);
            }
            at = unsettled + 1;
        }
        // What earlier owners settled beyond what was taken up so far.
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

    /// Whether the next commit is so full that nothing more should be delivered before something is settled.
    pub(super) fn is_crowded(&self) -> bool {
        // Each hole costs two runs: few holes always fit.
        self.unsettled.len() > 400 && self.position(true).is_crowded()
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "the elements are ranges of offsets")]
mod tests {
    use super::*;

    /// Takes up what lies at these offsets: which were delivered, and whether that may have happened before.
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
    fn a_successor_gets_what_was_not_settled_and_nothing_else() {
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
        assert_eq!(got.len(), again.len() + 3, "what came after it comes for the first time");
        for (offset, _) in &got {
            second.settle(*offset);
        }
        assert_eq!(second.position(false), fresh(23));
    }

    #[test]
    fn what_an_earlier_owner_settled_is_not_forgotten_before_it_is_reached() {
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
    fn after_a_crash_everything_that_was_there_may_have_been_delivered() {
        let mut progress = Progress::new(Position { open: true, ..fresh(0) }, 2);
        let again: Vec<bool> = deliver(&mut progress, 0..3).into_iter().map(|(_, again)| again).collect();
        assert_eq!(again, [true, true, false]);
    }

    #[test]
    fn what_was_taken_up_is_not_taken_up_again_and_shows_that_the_log_is_another() {
        let mut progress = Progress::new(Position { settled: vec![1..2], ..fresh(0) }, 3);
        assert_eq!(deliver(&mut progress, 0..3).len(), 2);
        assert!(!progress.is_rewound());
        assert!((0..3).all(|offset| !progress.wants(offset)));
        assert!(progress.is_rewound() && progress.wants(3));
    }

    #[test]
    fn what_is_settled_behind_one_that_is_not_takes_no_room() {
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
