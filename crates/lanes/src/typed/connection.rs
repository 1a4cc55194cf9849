use std::sync::Arc;

use partitura_broker::{Broker, Clock, Ordering, Producer, Result, SubscriptionName, TopicKind, TopicName};
use partitura_codec::Codecs;

use crate::SubscriptionTopics;

/// A broker, a producer on it, and the time.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) producer: Arc<dyn Producer>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) codecs: Arc<Codecs>,
}

/// A declared topic, without the type of its payloads.
#[derive(Clone)]
pub(super) struct DeclaredTopic {
    pub(super) name: TopicName,
    pub(super) kind: TopicKind,
    pub(super) ordering: Ordering,
    pub(super) parking: bool,
    pub(super) connection: Connection,
}

impl DeclaredTopic {
    /// A durable subscription and its topics.
    pub(super) fn source(&self, subscription: &str) -> Result<SubscriptionTopics> {
        Ok(SubscriptionTopics::new(self.name.clone(), SubscriptionName::new(subscription)?, self.ordering))
    }
}
