//! What arrives and waits to be read: bounded, the oldest make room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many wait to be read.
const ROOM: usize = 4_096;

/// One reads, any number write.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    letters: Mutex<(VecDeque<T>, bool)>,
    arrived: Notify,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { letters: Mutex::new((VecDeque::new(), false)), arrived: Notify::new() }
    }
}

impl<T> Mailbox<T> {
    pub(crate) fn put(&self, letter: T) {
        let mut letters = self.letters();
        if letters.0.len() == ROOM {
            letters.0.pop_front();
        }
        letters.0.push_back(letter);
        drop(letters);
        self.arrived.notify_one();
    }

    /// Nothing arrives any more.
    pub(crate) fn close(&self) {
        self.letters().1 = true;
        self.arrived.notify_one();
    }

    /// Waits for the next; `None` when it is closed. To drop the future loses nothing.
    pub(crate) async fn take(&self) -> Option<T> {
        loop {
            {
                let mut letters = self.letters();
                match letters.0.pop_front() {
                    Some(letter) => return Some(letter),
                    None if letters.1 => return None,
                    None => {}
                }
            }
            self.arrived.notified().await;
        }
    }

    fn letters(&self) -> MutexGuard<'_, (VecDeque<T>, bool)> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_make_room_and_what_is_there_is_read_after_the_end() {
        let mailbox = Mailbox::default();
        (0..=ROOM).for_each(|letter| mailbox.put(letter));
        mailbox.close();
        assert_eq!(mailbox.take().await, Some(1));
        for _ in 1..ROOM {
            mailbox.take().await;
        }
        assert_eq!(mailbox.take().await, None);
    }
}
