use std::collections::VecDeque;

use partitura_adapter_kit::{Floor, Index};

use crate::position::{Position, ranges};

/// One partition of one topic in the hands of a consumer: what was delivered and settled of it.
#[derive(Debug)]
pub(super) struct Log {
    /// Where this owner began.
    start: i64,
    /// What was settled above that by earlier owners, ascending.
    settled: VecDeque<(i64, i64)>,
    /// What lies below may have been delivered by an earlier owner.
    replayed: i64,
    /// The offset behind the last that was delivered, by anybody.
    high: i64,
    /// The offset behind the last that was taken up.
    next: i64,
    floor: Floor,
    /// Whether something is to be committed.
    pub(super) dirty: bool,
}

impl Log {
    /// Begins where `position` ends. `end` is the log's end now, of which an owner that crashed may have delivered all.
    pub(super) fn new(position: Position, end: i64) -> Self {
        let replayed = if position.open { end.max(position.high) } else { position.high };
        Self {
            start: position.offset,
            settled: position.settled.into(),
            replayed,
            high: position.high,
            next: position.offset,
            floor: Floor::new(),
            dirty: true,
        }
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// Whether the message at this offset is to be delivered: not if it was taken up before, nor if an earlier owner settled
    /// it.
    pub(super) fn wants(&mut self, offset: i64) -> bool {
        if offset < self.next {
            return false;
        }
        while self.settled.front().is_some_and(|(_, end)| *end <= offset) {
            self.settled.pop_front();
        }
        if self.settled.front().is_none_or(|(from, _)| *from > offset) {
            return true;
        }
        self.next = offset + 1;
        let index = self.floor.push(position_of(offset));
        self.floor.settle(index);
        self.dirty = true;
        false
    }

    /// The message at this offset, which is wanted, is delivered. Gives back whether it may have been before.
    pub(super) fn deliver(&mut self, offset: i64) -> (Index, bool) {
        self.next = offset + 1;
        self.high = self.high.max(self.next);
        (self.floor.push(position_of(offset)), offset < self.replayed)
    }

    pub(super) fn settle(&mut self, index: Index) -> bool {
        let settled = self.floor.settle(index);
        self.dirty |= settled;
        settled
    }

    /// What to commit. `open`: more may be delivered before the next commit.
    pub(super) fn position(&self, open: bool) -> Position {
        let offset = self.floor.floor().map_or(self.start, |floor| offset_of(floor) + 1);
        let mut settled = ranges(self.floor.settled_above().map(offset_of));
        // What earlier owners settled beyond what was taken up so far.
        let beyond = settled.last().map_or(offset, |(_, end)| *end);
        for (from, end) in self.settled.iter().map(|(from, end)| (*from.max(&beyond), *end)) {
            match settled.last_mut() {
                Some((_, last)) if *last == from => *last = end.max(from),
                _ if from < end => settled.push((from, end)),
                _ => {}
            }
        }
        Position { offset, high: self.high.max(self.replayed), open, settled }
    }

    /// Whether the next commit is so full that nothing more should be delivered before something is settled.
    pub(super) fn is_crowded(&self) -> bool {
        // Each hole costs two runs: few holes always fit.
        self.floor.unsettled() > 400 && self.position(true).is_crowded()
    }
}

fn position_of(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or_default()
}

fn offset_of(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes up what lies at these offsets: which were delivered, and whether that may have happened before.
    fn deliver(log: &mut Log, offsets: std::ops::Range<i64>) -> Vec<(i64, Index, bool)> {
        let mut all = Vec::new();
        for offset in offsets {
            if log.wants(offset) {
                let (index, again) = log.deliver(offset);
                all.push((offset, index, again));
            }
        }
        all
    }

    #[test]
    fn a_successor_gets_what_was_not_settled_and_nothing_else() {
        let mut first = Log::new(Position::fresh(10), 20);
        let held = deliver(&mut first, 10..20);
        assert!(held.iter().all(|(_, _, again)| !again), "a first delivery");
        for which in [0, 1, 4, 6] {
            assert!(first.settle(held[which].1));
        }
        let left = first.position(false);
        assert_eq!(left, Position { offset: 12, high: 20, open: false, settled: vec![(14, 15), (16, 17)] });

        let mut second = Log::new(left, 23);
        let got = deliver(&mut second, 12..23);
        let again: Vec<i64> = got.iter().filter(|(_, _, again)| *again).map(|(offset, _, _)| *offset).collect();
        assert_eq!(again, [12, 13, 15, 17, 18, 19]);
        assert_eq!(got.len(), again.len() + 3, "what came after it comes for the first time");
        for (_, index, _) in &got {
            second.settle(*index);
        }
        assert_eq!(second.position(false), Position::fresh(23));
    }

    #[test]
    fn what_an_earlier_owner_settled_is_not_forgotten_before_it_is_reached() {
        let before = Position { offset: 3, high: 9, open: true, settled: vec![(5, 7), (8, 9)] };
        let mut log = Log::new(before.clone(), 6);
        assert_eq!(log.position(true).settled, before.settled);
        let got = deliver(&mut log, 3..6);
        assert_eq!(log.position(true).settled, before.settled);
        log.settle(got[0].1);
        log.settle(got[1].1);
        assert_eq!((log.position(true).offset, log.position(true).settled), (6, vec![(6, 7), (8, 9)]));
    }

    #[test]
    fn after_a_crash_everything_that_was_there_may_have_been_delivered() {
        let mut log = Log::new(Position { open: true, ..Position::fresh(0) }, 2);
        let again: Vec<bool> = deliver(&mut log, 0..3).into_iter().map(|(_, _, again)| again).collect();
        assert_eq!(again, [true, true, false]);
    }

    #[test]
    fn what_was_taken_up_is_not_taken_up_again() {
        let mut log = Log::new(Position { settled: vec![(1, 2)], ..Position::fresh(0) }, 3);
        assert_eq!(deliver(&mut log, 0..3).len(), 2);
        assert!((0..3).all(|offset| !log.wants(offset)));
        assert!(log.wants(3));
    }
}
