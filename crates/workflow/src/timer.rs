use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::core::{Core, Leaf, Resolution, SlotKind};
use crate::{Cancelled, EventKind};

/// A durable timer, see [`Cx::sleep`](crate::Cx::sleep). It runs from its first poll, or from [`start`](Sleep::start).
/// Dropping it stops it, unless it was started by hand.
#[must_use = "a timer does nothing until it is awaited or started"]
#[derive(Debug)]
pub struct Sleep {
    leaf: Leaf,
    pending: Option<Due>,
}

#[derive(Debug, Clone, Copy)]
enum Due {
    After(u64),
    At(u64),
}

impl Sleep {
    pub(crate) fn lasting(core: &Arc<Core>, ms: u64) -> Self {
        Self { leaf: Leaf::claim(core), pending: Some(Due::After(ms)) }
    }

    pub(crate) fn until(core: &Arc<Core>, at: u64) -> Self {
        Self { leaf: Leaf::claim(core), pending: Some(Due::At(at)) }
    }

    /// Starts the timer now, to be awaited later.
    pub fn start(mut self) -> Self {
        self.issue();
        self.leaf.keep();
        self
    }

    /// Stops the timer; awaiting it gives [`Cancelled`], unless it has fired already.
    pub fn cancel(&mut self) {
        self.pending = None;
        self.leaf.cancel(SlotKind::Timer);
    }

    fn issue(&mut self) {
        let Some(due) = self.pending.take() else { return };
        self.leaf.issue(SlotKind::Timer, |seq, state| {
            let (due_at_ms, after_ms) = match due {
                Due::After(ms) => (state.now.saturating_add(ms), Some(ms)),
                Due::At(at) => (at, None),
            };
            EventKind::TimerStarted { seq, due_at_ms, after_ms }
        });
    }
}

impl Future for Sleep {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.issue();
        Poll::Ready(match ready!(self.leaf.poll(cx)) {
            Resolution::Fired => Ok(()),
            Resolution::Value(_) | Resolution::Failed(_) | Resolution::Cancelled => Err(Cancelled),
        })
    }
}
