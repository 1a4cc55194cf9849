use std::collections::VecDeque;

use partitura_adapter_kit::{Floor, Index};
use partitura_broker::Message;

use crate::position::{Position, ranges};

/// One partition of one topic in the hands of a consumer: what was fetched, delivered and settled of it.
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
    /// The offset behind the last that was fetched.
    next: i64,
    floor: Floor,
    ready: VecDeque<(i64, Message)>,
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
            ready: VecDeque::new(),
            dirty: true,
        }
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// Takes up a message that was fetched. `false` where it is not to be delivered.
    pub(super) fn arrive(&mut self, offset: i64, message: Message) -> bool {
        if offset < self.next {
            return false;
        }
        self.next = offset + 1;
        self.ready.push_back((offset, message));
        true
    }

    /// Leaves out what earlier owners settled; gives back how many messages, and of which size.
    pub(super) fn skip(&mut self) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        while let Some((offset, message)) = self.ready.front() {
            while self.settled.front().is_some_and(|(_, end)| end <= offset) {
                self.settled.pop_front();
            }
            if self.settled.front().is_none_or(|(from, _)| from > offset) {
                break;
            }
            (count, bytes) = (count + 1, bytes + message.size());
            let index = self.floor.push(position_of(*offset));
            self.floor.settle(index);
            self.dirty = true;
            self.ready.pop_front();
        }
        (count, bytes)
    }

    /// The next message to deliver.
    pub(super) fn peek(&self) -> Option<&Message> {
        self.ready.front().map(|(_, message)| message)
    }

    /// Delivers it: with whether it may have been delivered before.
    pub(super) fn deliver(&mut self) -> Option<(Message, Index, bool)> {
        let (offset, message) = self.ready.pop_front()?;
        let again = offset < self.replayed;
        self.high = self.high.max(offset + 1);
        Some((message, self.floor.push(position_of(offset)), again))
    }

    pub(super) fn settle(&mut self, index: Index) -> bool {
        let settled = self.floor.settle(index);
        self.dirty |= settled;
        settled
    }

    /// Forgets what was fetched and not delivered; gives back how many messages, and of which size.
    pub(super) fn clear(&mut self) -> (usize, usize) {
        let all = std::mem::take(&mut self.ready);
        (all.len(), all.iter().map(|(_, message)| message.size()).sum())
    }

    /// What to commit. `open`: more may be delivered before the next commit.
    pub(super) fn position(&self, open: bool) -> Position {
        let offset = self.floor.floor().map_or(self.start, |floor| offset_of(floor) + 1);
        let mut settled = ranges(self.floor.settled_above().map(offset_of));
        // What earlier owners settled beyond what was fetched so far.
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
    use partitura_broker::TopicName;

    use super::*;

    fn message(offset: i64) -> Message {
        Message::new(TopicName::new("t").expect("a valid name"), format!("{offset}"), "")
    }

    fn fetched(position: Position, offsets: std::ops::Range<i64>) -> Log {
        let mut log = Log::new(position, offsets.end);
        offsets.for_each(|offset| assert!(log.arrive(offset, message(offset))));
        log
    }

    fn deliver_all(log: &mut Log) -> Vec<(String, Index, bool)> {
        let mut all = Vec::new();
        loop {
            log.skip();
            let Some((message, index, again)) = log.deliver() else { return all };
            all.push((message.id.to_string(), index, again));
        }
    }

    #[test]
    fn a_successor_gets_what_was_not_settled_and_nothing_else() {
        let mut first = fetched(Position::fresh(10), 10..20);
        let held = deliver_all(&mut first);
        assert!(held.iter().all(|(_, _, again)| !again), "a first delivery");
        for which in [0, 1, 4, 6] {
            assert!(first.settle(held[which].1));
        }
        let left = first.position(false);
        assert_eq!(left, Position { offset: 12, high: 20, open: false, settled: vec![(14, 15), (16, 17)] });

        let mut second = fetched(left, 12..23);
        let got = deliver_all(&mut second);
        let again: Vec<&str> = got.iter().filter(|(_, _, again)| *again).map(|(id, _, _)| id.as_str()).collect();
        assert_eq!(again, ["12", "13", "15", "17", "18", "19"]);
        assert_eq!(got.len(), again.len() + 3, "what came after it comes for the first time");
        for (_, index, _) in &got {
            second.settle(*index);
        }
        assert_eq!(second.position(false), Position::fresh(23));
    }

    #[test]
    fn what_an_earlier_owner_settled_is_not_forgotten_before_it_is_reached() {
        let before = Position { offset: 3, high: 9, open: true, settled: vec![(5, 7), (8, 9)] };
        let mut log = fetched(before.clone(), 3..6);
        assert_eq!(log.position(true).settled, before.settled);
        let got = deliver_all(&mut log);
        assert_eq!(log.position(true).settled, before.settled);
        log.settle(got[0].1);
        log.settle(got[1].1);
        assert_eq!((log.position(true).offset, log.position(true).settled), (6, vec![(6, 7), (8, 9)]));
    }

    #[test]
    fn after_a_crash_everything_that_was_there_may_have_been_delivered() {
        let mut log = Log::new(Position { open: true, ..Position::fresh(0) }, 2);
        (0..3).for_each(|offset| assert!(log.arrive(offset, message(offset))));
        let again: Vec<bool> = deliver_all(&mut log).into_iter().map(|(_, _, again)| again).collect();
        assert_eq!(again, [true, true, false]);
    }
}
