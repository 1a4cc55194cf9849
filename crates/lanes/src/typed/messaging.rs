use std::fmt;
use std::sync::Arc;

use partitura_broker::{Broker, Clock, ProducerOptions, Result, TopicKind};
use partitura_codec::Codecs;

use super::connection::Connection;
use super::topic::TopicBuilder;

/// Typed messages over any broker, without workflows.
///
/// Payloads are JSON, by serde: they arrive as they were sent, or are [refused](partitura_codec). Cloning gives another
/// handle to the same connection.
#[derive(Clone)]
pub struct Messaging(Connection);

impl Messaging {
    /// Over this broker.
    ///
    /// # Errors
    /// Those of [`Broker::producer`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn new(broker: impl Broker + 'static) -> Result<Self> {
        Self::over(Arc::new(broker)).await
    }

    /// Over a broker that others use too.
    ///
    /// # Errors
    /// Those of [`Broker::producer`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn over(broker: Arc<dyn Broker>) -> Result<Self> {
        let producer = broker.producer(ProducerOptions::default()).await?.into();
        let clock = Arc::new(broker.clock());
        Ok(Self(Connection { broker, producer, clock, codecs: Arc::default() }))
    }

    /// Takes the time from elsewhere than [the broker's connection](Broker::clock).
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.0.clock = clock;
        self
    }

    /// Decodes the encoded payloads of workflows inside of messages: events have such. Messages on typed topics are not
    /// encoded.
    #[must_use]
    pub fn codecs(mut self, codecs: Arc<Codecs>) -> Self {
        self.0.codecs = codecs;
        self
    }

    /// A topic with exactly one subscription, which a message leaves once it is settled. For commands.
    pub fn queue<T>(&self, name: impl Into<String>) -> TopicBuilder<T> {
        TopicBuilder::new(self.0.clone(), name.into(), TopicKind::Queue)
    }

    /// A topic with any number of subscriptions, each of which gets every message. For events.
    pub fn stream<T>(&self, name: impl Into<String>) -> TopicBuilder<T> {
        TopicBuilder::new(self.0.clone(), name.into(), TopicKind::Stream)
    }
}

impl fmt::Debug for Messaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messaging").field("broker", &self.0.broker).finish_non_exhaustive()
    }
}
