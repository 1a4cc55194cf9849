use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::Cancelled;
use crate::core::Core;

/// Waits until no handler is open, see [`Cx::handlers_ended`](crate::Cx::handlers_ended).
#[derive(Debug)]
#[must_use = "nothing is waited for until it is awaited"]
pub struct HandlersEnded {
    core: Arc<Core>,
    ticket: Option<u64>,
}

impl HandlersEnded {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, ticket: None }
    }
}

impl Future for HandlersEnded {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        {
            let mut state = this.core.enter();
            if state.open_handlers == 0 {
                state.progress += 1;
                return Poll::Ready(Ok(()));
            }
        }
        this.core.wait_for_change(&mut this.ticket, cx.waker()).map(Err)
    }
}

impl Drop for HandlersEnded {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.core.forget_condition(ticket);
        }
    }
}
