use partitura_broker::Credit;
use tokio::sync::Semaphore;

/// The rest of the credit of one topic: messages and bytes. Waiting readers are served in turn, so that a large
/// message is not overtaken for ever by small ones of other partitions.
#[derive(Debug)]
pub(super) struct Pool {
    messages: Semaphore,
    bytes: Semaphore,
    all_bytes: u32,
}

impl Pool {
    pub(super) fn new(credit: Credit) -> Self {
        let all_bytes = u32::try_from(credit.bytes.get()).unwrap_or(u32::MAX);
        let messages = credit.messages.get().min(Semaphore::MAX_PERMITS);
        Self { messages: Semaphore::new(messages), bytes: Semaphore::new(all_bytes as usize), all_bytes }
    }

    /// Returns the share of a message of this size. A message that is larger than the whole credit takes all of it, and
    /// comes alone.
    fn share(&self, size: usize) -> u32 {
        u32::try_from(size).unwrap_or(u32::MAX).min(self.all_bytes)
    }

    /// Takes a message's share, if it is available.
    pub(super) fn try_take(&self, size: usize) -> bool {
        let Ok(message) = self.messages.try_acquire() else { return false };
        let Ok(bytes) = self.bytes.try_acquire_many(self.share(size)) else { return false };
        message.forget();
        bytes.forget();
        true
    }

    /// Waits for a message's share and takes it. If the future is dropped, it has taken nothing.
    pub(super) async fn take(&self, size: usize) {
        // The semaphores are never closed.
        let Ok(message) = self.messages.acquire().await else { return };
        let Ok(bytes) = self.bytes.acquire_many(self.share(size)).await else { return };
        message.forget();
        bytes.forget();
    }

    /// Gives the shares of messages of these sizes back.
    pub(super) fn give_back(&self, sizes: impl IntoIterator<Item = usize>) {
        let (mut messages, mut bytes) = (0, 0);
        for size in sizes {
            messages += 1;
            bytes += self.share(size) as usize;
        }
        self.bytes.add_permits(bytes);
        self.messages.add_permits(messages);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn pool(messages: usize, bytes: usize) -> Pool {
        let of = |n| NonZeroUsize::new(n).expect("more than nothing");
        Pool::new(Credit { messages: of(messages), bytes: of(bytes) })
    }

    #[test]
    fn both_bounds_hold_and_what_failed_took_nothing() {
        let pool = pool(2, 10);
        assert!(pool.try_take(4));
        assert!(!pool.try_take(7), "4 and 7 are more than 10");
        assert!(pool.try_take(6));
        assert!(!pool.try_take(0), "two messages are out");
        pool.give_back([4]);
        assert!(pool.try_take(4));
    }

    #[test]
    fn a_message_larger_than_everything_comes_alone() {
        let pool = pool(5, 10);
        assert!(pool.try_take(1));
        assert!(!pool.try_take(1_000));
        pool.give_back([1]);
        assert!(pool.try_take(1_000));
        assert!(!pool.try_take(1));
        pool.give_back([1_000]);
        assert!(pool.try_take(1));
    }
}
