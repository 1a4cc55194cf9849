use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, TryLockError};
use std::task::{Context, Poll};

use crate::Cancelled;
use crate::core::Core;

/// Waits for a condition on the workflow's state, see [`Cx::until`](crate::Cx::until).
#[must_use = "a condition is not looked at until it is awaited"]
pub struct Until<W> {
    core: Arc<Core>,
    state: Arc<Mutex<W>>,
    condition: Box<dyn Fn(&W) -> bool + Send>,
    ticket: Option<u64>,
}

impl<W> Until<W> {
    pub(crate) fn new(core: Arc<Core>, state: Arc<Mutex<W>>, condition: Box<dyn Fn(&W) -> bool + Send>) -> Self {
        Self { core, state, condition, ticket: None }
    }
}

impl<W> Future for Until<W> {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        drop(this.core.enter());
        if (this.condition)(&*lock_state(&this.state)) {
            this.core.enter().progress += 1;
            return Poll::Ready(Ok(()));
        }
        this.core.wait_for_change(&mut this.ticket, cx.waker()).map(Err)
    }
}

impl<W> Drop for Until<W> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.core.forget_condition(ticket);
        }
    }
}

impl<W> fmt::Debug for Until<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Until").field(&self.core).finish()
    }
}

/// The author's state. One thread polls an instance, so it can only be taken already if the author's code took it.
pub(crate) fn lock_state<W>(state: &Mutex<W>) -> std::sync::MutexGuard<'_, W> {
    match state.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => {
            panic!("cx.state(…) was called from within cx.state(…) or cx.until(…); take the values out first")
        }
    }
}
