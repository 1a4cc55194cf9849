use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use partitura_broker::{AckToken, Partition};

/// The unsettled deliveries of one consumer, by token.
///
/// A token is accepted once, and only with its consumer, partition and epoch. Slots are numbers counted up, not
/// places that are used again, so that a token settled twice never meets a later delivery: it would take 2³²
/// deliveries of one consumer for a number to come again. Memory is bounded by the unsettled deliveries.
#[derive(Debug)]
pub struct TokenSlab<T> {
    consumer: u32,
    next: u32,
    entries: HashMap<u32, Entry<T>, BuildHasherDefault<SlotHasher>>,
}

#[derive(Debug)]
struct Entry<T> {
    partition: Partition,
    epoch: u32,
    value: T,
}

impl<T> TokenSlab<T> {
    /// Nothing held yet. `consumer` is its number within the broker.
    pub fn new(consumer: u32) -> Self {
        Self { consumer, next: 0, entries: HashMap::default() }
    }

    /// Holds `value`, and returns the token for it.
    pub fn insert(&mut self, partition: Partition, epoch: u32, value: T) -> AckToken {
        while self.entries.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let slot = self.next;
        self.next = slot.wrapping_add(1);
        self.entries.insert(slot, Entry { partition, epoch, value });
        AckToken { consumer: self.consumer, partition, epoch, slot }
    }

    /// Returns the value of the token, unless it is stale.
    pub fn get(&self, token: &AckToken) -> Option<&T> {
        self.entries.get(&token.slot).filter(|entry| self.belongs(entry, token)).map(|entry| &entry.value)
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, token: &AckToken) -> Option<&mut T> {
        let consumer = self.consumer;
        let entry = self.entries.get_mut(&token.slot)?;
        (token.consumer == consumer && entry.partition == token.partition && entry.epoch == token.epoch)
            .then_some(&mut entry.value)
    }

    /// Removes and returns the value of the token, and makes the token stale. `None` if it is stale already.
    pub fn remove(&mut self, token: &AckToken) -> Option<T> {
        self.get(token)?;
        self.entries.remove(&token.slot).map(|entry| entry.value)
    }

    /// Removes and returns all values for which `keep` is false, in no order, and makes their tokens stale.
    pub fn take_unless(&mut self, mut keep: impl FnMut(Partition, &T) -> bool) -> Vec<T> {
        self.entries.extract_if(|_, entry| !keep(entry.partition, &entry.value)).map(|(_, entry)| entry.value).collect()
    }

    /// The number of held values.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn belongs(&self, entry: &Entry<T>, token: &AckToken) -> bool {
        token.consumer == self.consumer && entry.partition == token.partition && entry.epoch == token.epoch
    }
}

/// Slots are counted up, so one multiplication spreads them well enough (Knuth's multiplicative hashing).
#[derive(Default)]
struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte) ^ self.0 as u32);
        }
    }

    fn write_u32(&mut self, slot: u32) {
        self.0 = u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_honoured_once_and_only_as_it_was_given_out() {
        let mut slab = TokenSlab::new(7);
        let token = slab.insert(Partition(3), 2, "a");
        for stale in [
            AckToken { consumer: 8, ..token },
            AckToken { partition: Partition(4), ..token },
            AckToken { epoch: 1, ..token },
            AckToken { slot: token.slot + 1, ..token },
        ] {
            assert_eq!(slab.get(&stale), None);
            assert_eq!(slab.get_mut(&stale), None);
            assert_eq!(slab.remove(&stale), None);
        }
        assert_eq!(slab.remove(&token), Some("a"));
        assert_eq!(slab.remove(&token), None);
        let next = slab.insert(Partition(3), 2, "b");
        assert_ne!(next.slot, token.slot, "a settled token must not name a later delivery");
    }

    #[test]
    fn losing_a_partition_makes_its_tokens_stale_and_leaves_the_others() {
        let mut slab = TokenSlab::new(1);
        let lost = slab.insert(Partition(0), 1, 'a');
        let kept = slab.insert(Partition(1), 1, 'b');
        assert_eq!(slab.take_unless(|partition, _| partition != Partition(0)), ['a']);
        assert_eq!((slab.get(&lost), slab.get(&kept), slab.len()), (None, Some(&'b'), 1));
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_map_from_tokens(steps in prop::collection::vec((any::<bool>(), 0_usize..50), 0..300)) {
            let mut slab = TokenSlab::new(1);
            let mut model: Vec<(AckToken, usize)> = Vec::new();
            let mut settled: Vec<AckToken> = Vec::new();
            for (at, (insert, which)) in steps.into_iter().enumerate() {
                if insert || model.is_empty() {
                    model.push((slab.insert(Partition(which as u32 % 4), 1, at), at));
                } else {
                    let (token, value) = model.swap_remove(which % model.len());
                    prop_assert_eq!(slab.remove(&token), Some(value));
                    settled.push(token);
                }
                prop_assert_eq!(slab.len(), model.len());
            }
            for token in &settled {
                prop_assert_eq!(slab.get(token), None);
            }
            for (token, value) in &model {
                prop_assert_eq!(slab.get(token), Some(value));
            }
        }
    }
}
