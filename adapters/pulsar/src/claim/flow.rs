//! The flow of a consumer: Pulsar's credit.

use partitura_adapter_kit::MeanSize;

/// The weight of the mean size: a message that is smaller counts for one part of it.
const WEIGHT: usize = 8;

/// The number of messages that the broker may still send. A batch comes as a whole. Its messages that are more than
/// this number count against the next grants.
#[derive(Debug)]
pub(crate) struct Flow {
    ahead: usize,
    /// The bytes that may be held, roughly. Pulsar's credit counts messages, and they may be large.
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

    /// Takes note of an entry with this number of messages to be settled.
    pub(crate) fn received(&mut self, messages: usize, bytes: usize) {
        self.granted -= i64::try_from(messages).unwrap_or(i64::MAX);
        self.held += messages;
        self.size.add(bytes / messages.max(1));
    }

    pub(crate) fn settled(&mut self, messages: usize) {
        self.held = self.held.saturating_sub(messages);
    }

    /// The number of messages to grant now, if any.
    pub(crate) fn grant(&mut self) -> Option<u32> {
        let ahead = (self.bytes / self.size.bytes()).clamp(1, self.ahead);
        let room = i64::try_from(ahead.saturating_sub(self.held)).unwrap_or(i64::MAX) - self.granted;
        // Not one by one, unless the broker may send no more.
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

    #[test]
    fn no_more_is_granted_than_may_be_held() {
        let mut flow = Flow::new(8, 8 << 20);
        assert_eq!(flow.grant(), Some(8));
        assert_eq!(flow.grant(), None);
        flow.received(5, 5);
        assert_eq!(flow.grant(), None);
        // A batch larger than the rest of the grant.
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
