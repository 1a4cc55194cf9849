//! What of the entries that were delivered is still unsettled, and how many more the broker may send.

use std::collections::HashMap;

use partitura_adapter_kit::MeanSize;
use pulsar::proto::MessageIdData;

/// Of how many parts a message that is smaller than the mean is one.
const WEIGHT: usize = 8;

/// The place of an entry in its log. Grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) ledger: u64,
    pub(crate) entry: u64,
}

impl Position {
    pub(crate) fn of(id: &MessageIdData) -> Self {
        Self { ledger: id.ledger_id, entry: id.entry_id }
    }

    fn id(self) -> MessageIdData {
        MessageIdData { ledger_id: self.ledger, entry_id: self.entry, ..MessageIdData::default() }
    }
}

/// A message that is out: its entry, and its index where that is a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle {
    /// Which of several consumers it came through.
    pub(crate) source: usize,
    pub(crate) position: Position,
    pub(crate) index: Option<u32>,
}

/// A set of indexes of a batch: those that are not acknowledged, as Pulsar's acknowledgement sets have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unacknowledged {
    words: Vec<u64>,
    count: u32,
    size: u32,
}

impl Unacknowledged {
    /// Of a batch of `size`. What the broker says of it: nothing, or which ones are left.
    pub(crate) fn new(size: u32, left: &[i64]) -> Self {
        let mut words = vec![u64::MAX; size.div_ceil(64) as usize];
        if let (Some(last), rest @ 1..) = (words.last_mut(), size % 64) {
            *last = (1 << rest) - 1;
        }
        if !left.is_empty() {
            // Words that are missing at the end are empty.
            let left = left.iter().map(|word| word.cast_unsigned()).chain(std::iter::repeat(0));
            words.iter_mut().zip(left).for_each(|(word, left)| *word &= left);
        }
        let count = words.iter().map(|word| word.count_ones()).sum();
        Self { words, count, size }
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        self.words.get((index / 64) as usize).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn remove(&mut self, index: u32) {
        if self.contains(index) {
            self.words[(index / 64) as usize] &= !(1 << (index % 64));
            self.count -= 1;
        }
    }

    fn acknowledgement(&self, position: Position) -> MessageIdData {
        MessageIdData {
            ack_set: self.words.iter().map(|word| word.cast_signed()).collect(),
            batch_size: i32::try_from(self.size).ok(),
            ..position.id()
        }
    }
}

/// The batches of which something is out, and what to tell the broker of settlements.
#[derive(Debug)]
pub(crate) struct Ledger {
    batches: HashMap<Position, Unacknowledged>,
    /// Whether the broker can settle single messages of a batch. Where it cannot, a batch is settled as a whole.
    by_index: bool,
}

impl Ledger {
    pub(crate) fn new(by_index: bool) -> Self {
        Self { batches: HashMap::new(), by_index }
    }

    /// A batch is out.
    pub(crate) fn insert(&mut self, position: Position, unacknowledged: Unacknowledged) {
        if unacknowledged.count > 0 {
            self.batches.insert(position, unacknowledged);
        }
    }

    /// Takes up settlements, and says what to acknowledge: an entry once, however many of its messages are settled.
    pub(crate) fn settle(&mut self, handles: impl IntoIterator<Item = Handle>) -> Vec<MessageIdData> {
        let (mut ids, mut touched) = (Vec::new(), Vec::new());
        for Handle { position, index, .. } in handles {
            match index {
                None => ids.push(position.id()),
                Some(index) => {
                    if let Some(batch) = self.batches.get_mut(&position) {
                        batch.remove(index);
                        touched.push(position);
                    }
                }
            }
        }
        touched.dedup();
        touched.sort_unstable();
        touched.dedup();
        for position in touched {
            match self.batches.get(&position) {
                Some(batch) if batch.count > 0 => ids.extend(self.by_index.then(|| batch.acknowledgement(position))),
                _ => {
                    self.batches.remove(&position);
                    ids.push(position.id());
                }
            }
        }
        ids
    }
}

/// How many messages the broker may still send. What it sends beyond that, since a batch comes as a whole, counts against
/// what it may send next.
#[derive(Debug)]
pub(crate) struct Flow {
    ahead: usize,
    /// About how many bytes may be held. Pulsar's credit counts messages, and they may be large.
    bytes: usize,
    /// Received and not settled.
    held: usize,
    /// Granted and not received. Below zero after a large batch, at the broker as here.
    granted: i64,
    size: MeanSize,
}

impl Flow {
    pub(crate) fn new(ahead: usize, bytes: usize) -> Self {
        Self { ahead: ahead.max(1), bytes, held: 0, granted: 0, size: MeanSize::new(WEIGHT) }
    }

    /// An entry of so many messages to be settled has come.
    pub(crate) fn received(&mut self, messages: usize, bytes: usize) {
        self.granted -= i64::try_from(messages).unwrap_or(i64::MAX);
        self.held += messages;
        self.size.add(bytes / messages.max(1));
    }

    pub(crate) fn settled(&mut self, messages: usize) {
        self.held = self.held.saturating_sub(messages);
    }

    /// What to grant now, if anything.
    pub(crate) fn grant(&mut self) -> Option<u32> {
        let ahead = (self.bytes / self.size.bytes()).clamp(1, self.ahead);
        let room = i64::try_from(ahead.saturating_sub(self.held)).unwrap_or(i64::MAX) - self.granted;
        // Not one by one, unless the broker has nothing left.
        let worth = self.granted <= 0 || room >= i64::try_from(ahead / 4).unwrap_or(i64::MAX);
        if room <= 0 || !worth {
            return None;
        }
        self.granted += room;
        u32::try_from(room).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { ledger: 1, entry: 2 };

    fn handle(index: Option<u32>) -> Handle {
        Handle { source: 0, position: AT, index }
    }

    fn ledger(size: u32) -> Ledger {
        let mut ledger = Ledger::new(true);
        ledger.insert(AT, Unacknowledged::new(size, &[]));
        ledger
    }

    #[test]
    fn an_entry_of_one_message_is_acknowledged_as_a_whole() {
        assert_eq!(Ledger::new(true).settle([handle(None)]), [AT.id()]);
    }

    #[test]
    fn of_a_batch_the_settled_are_missing_in_the_set_and_at_last_it_goes_as_a_whole() {
        let mut ledger = ledger(70);
        let ids = ledger.settle([handle(Some(0)), handle(Some(69)), handle(Some(0))]);
        assert_eq!(ids.len(), 1);
        assert_eq!(ids[0].ack_set, [!1, 0b01_1111]);
        let ids = ledger.settle((1..69).map(|index| handle(Some(index))));
        assert_eq!(ids, [AT.id()]);
        assert!(ledger.settle([handle(Some(5))]).is_empty() || ledger.batches.is_empty());
    }

    #[test]
    fn a_broker_without_indexes_hears_of_a_batch_only_when_it_is_done() {
        let mut ledger = Ledger { by_index: false, ..ledger(2) };
        assert_eq!(ledger.settle([handle(Some(1))]), []);
        assert_eq!(ledger.settle([handle(Some(0))]), [AT.id()]);
    }

    #[test]
    fn a_batch_that_comes_again_has_what_the_broker_says_is_left() {
        let left = Unacknowledged::new(10, &[0b10_0001_0000]);
        assert_eq!(left.count, 2);
        assert!(left.contains(4) && left.contains(9) && !left.contains(0) && !left.contains(200));
        assert_eq!(Unacknowledged::new(64, &[]).count, 64);
        assert_eq!(Unacknowledged::new(130, &[1]).count, 1);
    }

    #[test]
    fn no_more_is_granted_than_may_be_held() {
        let mut flow = Flow::new(8, 8 << 20);
        assert_eq!(flow.grant(), Some(8));
        assert_eq!(flow.grant(), None);
        flow.received(5, 5);
        assert_eq!(flow.grant(), None);
        // A batch larger than what was left.
        flow.received(10, 10);
        assert_eq!((flow.held, flow.granted), (15, -7));
        flow.settled(14);
        assert_eq!(flow.grant(), Some(14));
        assert_eq!(flow.granted, 7);
    }

    #[test]
    fn large_messages_are_fetched_a_few_at_a_time() {
        let mut flow = Flow::new(1_000, 8 << 20);
        assert_eq!(flow.grant(), Some(8), "as many as there may be if all are large");
        flow.received(1, 256 << 10);
        assert_eq!(flow.grant(), Some(24), "32 fit, one is held and 7 are on their way");
        flow.received(1, 1 << 20);
        assert_eq!(flow.grant(), None, "30 are on their way, 8 would do");
    }
}
