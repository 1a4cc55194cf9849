//! The unsettled messages of delivered entries.

use std::collections::HashMap;

use pulsar::proto::MessageIdData;

/// The place of an entry in its log. Grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) ledger: u64,
    pub(crate) entry: u64,
}

impl Position {
    pub(crate) fn from_id(id: &MessageIdData) -> Self {
        Self { ledger: id.ledger_id, entry: id.entry_id }
    }

    fn id(self) -> MessageIdData {
        MessageIdData { ledger_id: self.ledger, entry_id: self.entry, ..MessageIdData::default() }
    }
}

/// A delivered message: its entry, and its index if the entry is a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle {
    /// The number of the consumer among those of the claim.
    pub(crate) consumer: usize,
    pub(crate) position: Position,
    pub(crate) index: Option<u32>,
}

/// The indexes of a batch that are not acknowledged, in the form of Pulsar's acknowledgement sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unacknowledged {
    words: Vec<u64>,
    count: u32,
    size: u32,
}

impl Unacknowledged {
    /// Makes that of a batch of `size` messages. `left` is the set that the broker sent with it; if it is empty, none
    /// is acknowledged.
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

/// The batches with unsettled messages, and the acknowledgements that settlements make.
#[derive(Debug)]
pub(crate) struct Ledger {
    batches: HashMap<Position, Unacknowledged>,
    /// Whether the broker can settle single messages of a batch. Otherwise a batch is settled as a whole.
    by_index: bool,
}

impl Ledger {
    pub(crate) fn new(by_index: bool) -> Self {
        Self { batches: HashMap::new(), by_index }
    }

    /// Adds a batch that was delivered.
    pub(crate) fn insert(&mut self, position: Position, unacknowledged: Unacknowledged) {
        if unacknowledged.count > 0 {
            self.batches.insert(position, unacknowledged);
        }
    }

    /// Takes settlements, and returns the acknowledgements: one for each entry of which messages are settled.
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

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { ledger: 1, entry: 2 };

    fn handle(index: Option<u32>) -> Handle {
        Handle { consumer: 0, position: AT, index }
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
    fn settled_messages_are_missing_in_the_set_of_their_batch_until_it_goes_as_a_whole() {
        let mut ledger = ledger(70);
        let ids = ledger.settle([handle(Some(0)), handle(Some(69)), handle(Some(0))]);
        assert_eq!(ids.len(), 1);
        assert_eq!(ids[0].ack_set, [!1, 0b01_1111]);
        let ids = ledger.settle((1..69).map(|index| handle(Some(index))));
        assert_eq!(ids, [AT.id()]);
        assert!(ledger.settle([handle(Some(5))]).is_empty() || ledger.batches.is_empty());
    }

    #[test]
    fn a_broker_without_indexes_is_sent_a_batch_when_all_of_it_is_settled() {
        let mut ledger = Ledger { by_index: false, ..ledger(2) };
        assert_eq!(ledger.settle([handle(Some(1))]), []);
        assert_eq!(ledger.settle([handle(Some(0))]), [AT.id()]);
    }

    #[test]
    fn a_batch_that_comes_again_has_the_messages_that_the_broker_says_are_left() {
        let left = Unacknowledged::new(10, &[0b10_0001_0000]);
        assert_eq!(left.count, 2);
        assert!(left.contains(4) && left.contains(9) && !left.contains(0) && !left.contains(200));
        assert_eq!(Unacknowledged::new(64, &[]).count, 64);
        assert_eq!(Unacknowledged::new(130, &[1]).count, 1);
    }
}
