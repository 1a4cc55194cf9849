use std::sync::{Mutex, PoisonError};
use std::thread::Thread;

/// The thread that drives the consumers of a connection, while there is one.
#[derive(Debug, Default)]
pub(super) struct DrivingThread(Mutex<Option<Thread>>);

impl DrivingThread {
    /// Has the thread look which consumers are due. Returns `false` if there is none.
    pub(super) fn wake(&self) -> bool {
        let thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        thread.iter().for_each(Thread::unpark);
        thread.is_some()
    }

    pub(super) fn set(&self, thread: Option<Thread>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = thread;
    }
}
