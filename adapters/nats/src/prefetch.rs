//! How many messages an owner lets the server send in advance.
//!
//! The server counts messages, and memory is bytes. So an owner begins with a few, and asks for as many as fit into its bound
//! by the sizes that it sees.

use partitura_adapter_kit::MeanSize;

/// Of how many parts a message that is smaller than the mean is one.
const WEIGHT: usize = 16;
/// The least, so that small partitions are not slowed down by the way there and back.
const LEAST: usize = 4;

/// What an owner may hold that it has not given out, or that is not settled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// Follows the sizes of what comes.
#[derive(Debug)]
pub(crate) struct Prefetch {
    most: Ahead,
    size: MeanSize,
    seen: usize,
    /// What the server was asked for last.
    asked: usize,
}

impl Prefetch {
    pub(crate) fn new(most: Ahead) -> Self {
        let mut this = Self { most, size: MeanSize::new(WEIGHT), seen: 0, asked: 0 };
        this.asked = this.wanted();
        this
    }

    /// How many the server may send at the moment.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    /// A message of this size has come.
    pub(crate) fn came(&mut self, size: usize) {
        self.size.add(size);
        self.seen += 1;
    }

    /// What to ask the server for instead, where that makes a difference.
    pub(crate) fn change(&mut self) -> Option<usize> {
        let wanted = self.wanted();
        let little = self.asked.abs_diff(wanted) * 4 < self.asked && wanted != self.most.messages;
        if self.seen < LEAST.min(self.most.messages) || little || wanted == self.asked {
            return None;
        }
        self.asked = wanted;
        Some(wanted)
    }

    fn wanted(&self) -> usize {
        // Where few may be out, one that is larger than all takes the whole bound alone.
        let least = LEAST.min(self.most.messages).max(1);
        (self.most.bytes / self.size.bytes()).clamp(least, self.most.messages.max(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefetch(messages: usize) -> Prefetch {
        Prefetch::new(Ahead { messages, bytes: 4 << 20 })
    }

    #[test]
    fn small_messages_are_fetched_as_many_as_may_be_out_and_large_ones_as_fit() {
        let mut small = prefetch(1_000);
        assert_eq!(small.asked(), 4);
        (0..4).for_each(|_| small.came(100));
        assert_eq!((small.change(), small.change()), (Some(1_000), None));
        let mut large = prefetch(1_000);
        (0..10).for_each(|_| large.came(64 << 10));
        assert_eq!(large.change(), Some(64));
    }

    #[test]
    fn sizes_that_grow_are_followed_at_once_and_those_that_shrink_slowly() {
        let mut prefetch = prefetch(1_000);
        (0..4).for_each(|_| prefetch.came(100));
        prefetch.change();
        prefetch.came(1 << 20);
        assert_eq!(prefetch.change(), Some(4));
        prefetch.came(100);
        assert_eq!(prefetch.change(), None);
        (0..200).for_each(|_| prefetch.came(100));
        assert_eq!(prefetch.change(), Some(1_000));
    }

    #[test]
    fn never_more_than_may_be_out() {
        let mut prefetch = prefetch(2);
        assert_eq!(prefetch.asked(), 2);
        (0..9).for_each(|_| prefetch.came(1));
        assert_eq!(prefetch.change(), None);
    }
}
