use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::core::Core;

/// A future that the workflow's cancellation does not reach, see [`Cx::shielded`](crate::Cx::shielded).
#[must_use = "a future does nothing until it is awaited"]
pub struct Shielded<F> {
    core: Arc<Core>,
    future: Pin<Box<F>>,
}

impl<F> Shielded<F> {
    pub(crate) fn new(core: Arc<Core>, future: F) -> Self {
        Self { core, future: Box::pin(future) }
    }
}

impl<F: Future> Future for Shielded<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _shield = this.core.shield();
        this.future.as_mut().poll(cx)
    }
}

impl<F> fmt::Debug for Shielded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shielded").field(&self.core).finish()
    }
}
