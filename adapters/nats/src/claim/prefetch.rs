//! The number of messages that an owner lets the server send in advance.
//!
//! The server counts messages, and memory is bytes. So an owner begins with a few messages, and asks for as many as fit
//! into its bound by the sizes that it sees.

use partitura_adapter_kit::MeanSize;

/// A message that is smaller than the mean changes it by one part in this many.
const WEIGHT: usize = 16;
/// The least number of messages in advance, so that the round trip does not slow down small partitions.
const LEAST: usize = 4;

/// The most that an owner may hold, given out and not settled, or not given out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// Follows the sizes of the messages that come.
#[derive(Debug)]
pub(crate) struct Prefetch {
    max: Ahead,
    size: MeanSize,
    seen: usize,
    /// The number that the server was asked for last.
    asked: usize,
}

impl Prefetch {
    pub(crate) fn new(max: Ahead) -> Self {
        let mut this = Self { max, size: MeanSize::new(WEIGHT), seen: 0, asked: 0 };
        this.asked = this.wanted();
        this
    }

    /// The number of messages that the server may send at the moment.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    /// Takes note of a message of this size.
    pub(crate) fn came(&mut self, size: usize) {
        self.size.add(size);
        self.seen += 1;
    }

    /// The number to ask the server for instead, if it differs enough.
    pub(crate) fn change(&mut self) -> Option<usize> {
        let wanted = self.wanted();
        let is_close = self.asked.abs_diff(wanted) * 4 < self.asked && wanted != self.max.messages;
        if self.seen < LEAST.min(self.max.messages) || is_close || wanted == self.asked {
            return None;
        }
        self.asked = wanted;
        Some(wanted)
    }

    fn wanted(&self) -> usize {
        // Where few messages are allowed, one that is larger than the whole bound takes all of it alone.
        let least = LEAST.min(self.max.messages).max(1);
        (self.max.bytes / self.size.bytes()).clamp(least, self.max.messages.max(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefetch(messages: usize) -> Prefetch {
        Prefetch::new(Ahead { messages, bytes: 4 << 20 })
    }

    #[test]
    fn as_many_small_messages_are_fetched_as_allowed_and_as_many_large_ones_as_fit() {
        let mut small = prefetch(1_000);
        assert_eq!(small.asked(), 4);
        (0..4).for_each(|_| small.came(100));
        assert_eq!((small.change(), small.change()), (Some(1_000), None));
        let mut large = prefetch(1_000);
        (0..10).for_each(|_| large.came(64 << 10));
        assert_eq!(large.change(), Some(64));
    }

    #[test]
    fn larger_sizes_count_at_once_and_smaller_ones_slowly() {
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
    fn no_more_messages_are_fetched_than_allowed() {
        let mut prefetch = prefetch(2);
        assert_eq!(prefetch.asked(), 2);
        (0..9).for_each(|_| prefetch.came(1));
        assert_eq!(prefetch.change(), None);
    }
}
