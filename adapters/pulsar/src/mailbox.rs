//! A bounded queue of messages that arrive and wait to be read. The oldest make room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The number of messages that may wait to be read.
const ROOM: usize = 4_096;

/// A queue with one reader and any number of writers.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    letters: Mutex<Letters<T>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Letters<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { letters: Mutex::new(Letters { waiting: VecDeque::new(), closed: false }), arrived: Notify::new() }
    }
}

impl<T> Mailbox<T> {
    pub(crate) fn put(&self, letter: T) {
        let mut letters = self.letters();
        if letters.waiting.len() == ROOM {
            letters.waiting.pop_front();
        }
        letters.waiting.push_back(letter);
        drop(letters);
        self.arrived.notify_one();
    }

    /// Ends the reader after the messages that wait.
    pub(crate) fn close(&self) {
        self.letters().closed = true;
        self.arrived.notify_one();
    }

    /// Waits for the next message; `None` when it is closed. Dropping the future loses nothing.
    pub(crate) async fn take(&self) -> Option<T> {
        loop {
            {
                let mut letters = self.letters();
                match letters.waiting.pop_front() {
                    Some(letter) => return Some(letter),
                    None if letters.closed => return None,
                    None => {}
                }
            }
            self.arrived.notified().await;
        }
    }

    fn letters(&self) -> MutexGuard<'_, Letters<T>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_make_room_and_waiting_ones_are_read_after_the_end() {
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
