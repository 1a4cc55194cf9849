use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Wake;
use std::thread::{self, ThreadId};

use std::sync::Arc;

/// The waker of an instance's root future. It only takes notes: whether the code is to be polled again, and whether
/// somebody who is not part of the instance's turn woke it.
#[derive(Debug, Default)]
pub(crate) struct RootWaker {
    woken: AtomicBool,
    woken_from_outside: AtomicBool,
    turn: Mutex<Option<ThreadId>>,
}

/// Held while an instance's turn is on this thread.
pub(crate) struct TurnGuard<'a>(&'a RootWaker);

impl RootWaker {
    pub(crate) fn begin_turn(&self) -> TurnGuard<'_> {
        self.set_turn(Some(thread::current().id()));
        TurnGuard(self)
    }

    pub(crate) fn is_polling_here(&self) -> bool {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) == Some(thread::current().id())
    }

    pub(crate) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn was_woken_from_outside(&self) -> bool {
        self.woken_from_outside.load(Ordering::Relaxed)
    }

    fn set_turn(&self, thread: Option<ThreadId>) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = thread;
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        self.0.set_turn(None);
    }
}

impl Wake for RootWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let flag = if self.is_polling_here() { &self.woken } else { &self.woken_from_outside };
        flag.store(true, Ordering::Relaxed);
    }
}
