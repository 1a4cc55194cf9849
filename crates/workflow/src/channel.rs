use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use serde::de::DeserializeOwned;

use crate::core::{Core, Filter};
use crate::{Payload, ReceiveError};

/// The signals of one name, typed, in the order in which they came. See [`Cx::channel`](crate::Cx::channel).
///
/// Signals that came before anyone received are kept. Each goes to exactly one receiver: of those waiting, the one that
/// began first.
pub struct Channel<T> {
    core: Arc<Core>,
    name: Arc<str>,
    payload: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Channel<T> {
    pub(crate) fn new(core: Arc<Core>, name: String) -> Self {
        Self { core, name: name.into(), payload: PhantomData }
    }

    /// The channel's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next signal.
    ///
    /// # Errors
    /// [`ReceiveError::Cancelled`] when the workflow is cancelled meanwhile; [`ReceiveError::Payload`] when the signal
    /// is not a `T`.
    ///
    /// # Cancel safety
    /// Dropping the future loses no signal.
    pub fn recv(&self) -> Receive<T> {
        self.receive(None)
    }

    /// The next signal that `wanted` holds for; the others are kept.
    ///
    /// # Errors
    /// As for [`recv`](Channel::recv): a signal that is not a `T` is taken, and reported.
    ///
    /// # Cancel safety
    /// Dropping the future loses no signal.
    pub fn recv_where<F>(&self, wanted: F) -> Receive<T>
    where
        F: Fn(&T) -> bool + Send + Sync + 'static,
    {
        self.receive(Some(Arc::new(move |payload: &Payload| payload.decode().map_or(true, |value| wanted(&value)))))
    }

    fn receive(&self, filter: Option<Filter>) -> Receive<T> {
        let (core, channel) = (Arc::clone(&self.core), Arc::clone(&self.name));
        Receive { core, channel, filter, ticket: None, payload: PhantomData }
    }
}

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), name: Arc::clone(&self.name), payload: PhantomData }
    }
}

impl<T> fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.name).finish()
    }
}

/// Waits for a signal, see [`Channel::recv`].
#[must_use = "nothing is received until it is awaited"]
pub struct Receive<T> {
    core: Arc<Core>,
    channel: Arc<str>,
    filter: Option<Filter>,
    ticket: Option<u64>,
    payload: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Future for Receive<T> {
    type Output = Result<T, ReceiveError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let payload = match this.ticket {
            Some(ticket) => {
                let served = ready!(this.core.poll_receiver(&this.channel, ticket, cx.waker()));
                this.ticket = None;
                served?
            }
            None => match this.core.receive(&this.channel, this.filter.as_ref(), cx.waker()) {
                Ok(taken) => taken?,
                Err(ticket) => {
                    this.ticket = Some(ticket);
                    return Poll::Pending;
                }
            },
        };
        Poll::Ready(
            payload.decode().map_err(|error| ReceiveError::Payload { channel: this.channel.to_string(), error }),
        )
    }
}

impl<T> Drop for Receive<T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.core.leave(&self.channel, ticket);
        }
    }
}

impl<T> fmt::Debug for Receive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receive").field(&self.channel).finish()
    }
}
