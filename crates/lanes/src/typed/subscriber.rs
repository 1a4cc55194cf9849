use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use partitura_broker::{Credit, Result};
use serde::de::DeserializeOwned;

use super::connection::DeclaredTopic;
use super::{MessageFn, TypedHandler};
use crate::{Handler, LaneOptions, Lanes, Retry, SubscriptionTopics};

/// Describes how a subscription is consumed, until a function is given to [process](Self::process) it.
#[must_use = "nothing is consumed before `process(…).run_until(…)` is awaited"]
pub struct Subscriber<T> {
    topic: DeclaredTopic,
    /// `None`: a broadcast.
    subscription: Option<String>,
    options: LaneOptions,
    payload: PhantomData<fn(T)>,
}

impl<T> Subscriber<T> {
    pub(super) fn new(topic: DeclaredTopic, subscription: Option<String>) -> Self {
        let options = LaneOptions::default().clock(topic.connection.clock.clone());
        let options = options.parking(topic.parking && subscription.is_some());
        Self { topic, subscription, options, payload: PhantomData }
    }

    /// Sets when to try again, and when to give up.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.options.retry = retry;
        self
    }

    /// Sets how many messages are handled at once, each of another key; 64 by default.
    pub fn concurrency(mut self, messages: usize) -> Self {
        self.options = self.options.concurrency(messages);
        self
    }

    /// Sets how much may be received and not settled.
    pub fn credit(mut self, credit: Credit) -> Self {
        self.options = self.options.credit(credit);
        self
    }

    /// Sets how long a message is held before it is parked.
    pub fn hold(mut self, limit: Duration) -> Self {
        self.options = self.options.hold(limit);
        self
    }

    /// Sets how long a shutdown waits for running handlers; 30 s by default.
    pub fn drain_within(mut self, limit: Duration) -> Self {
        self.options = self.options.drain_within(limit);
        self
    }

    /// Changes any of the options.
    pub fn options(mut self, change: impl FnOnce(LaneOptions) -> LaneOptions) -> Self {
        self.options = change(self.options);
        self
    }

    /// Handles each message with a function of its payload, or of its [`Envelope`](super::Envelope).
    ///
    /// An error is tried again as the [policy](Self::retry) says; then the message becomes a dead letter. A message
    /// that is not JSON of the right shape becomes one at once.
    pub fn process<A: 'static, F: MessageFn<T, A>>(self, function: F) -> Processing<T, TypedHandler<T, A, F>>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let handler = TypedHandler::new(function).codecs(self.topic.connection.codecs.clone());
        Processing { subscriber: self, handler }
    }
}

/// A subscription and the handler of its messages.
#[must_use = "nothing is consumed before `run_until(…)` is awaited"]
pub struct Processing<T, H> {
    subscriber: Subscriber<T>,
    handler: H,
}

impl<T, H: Handler> Processing<T, H> {
    /// Consumes until `shutdown` is ready; see [`Lanes::run_until`].
    ///
    /// # Errors
    /// Those of [`Lanes::open`] and [`Lanes::run_until`].
    ///
    /// # Cancel safety
    /// Dropping the future is a crash: unsettled messages are delivered to another consumer.
    pub async fn run_until(self, shutdown: impl Future<Output = impl Sized> + Send) -> Result<()> {
        let Subscriber { topic, subscription, options, .. } = self.subscriber;
        let source = match &subscription {
            Some(subscription) => topic.source(subscription)?,
            None => SubscriptionTopics::broadcast(topic.name.clone()),
        };
        // One by one: the function takes one message, and a message that is done must not run again because another
        // failed.
        let options = options.batch(1);
        Lanes::open(&*topic.connection.broker, source, options, self.handler).await?.run_until(shutdown).await
    }
}

impl<T> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Subscriber");
        debug.field("topic", &self.topic.name).field("subscription", &self.subscription);
        debug.field("options", &self.options).finish()
    }
}

impl<T, H> fmt::Debug for Processing<T, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processing").field("subscriber", &self.subscriber).finish_non_exhaustive()
    }
}
