//! Delayed messages, and their cancellation.

use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Delayed, Message, MessageId, Partition, partition_of};

use crate::topics::TopicEntry;

/// The longest delay.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The cancellation of a delayed message.
#[derive(Debug)]
pub(crate) struct Cancellation {
    pub(crate) topic: Arc<TopicEntry>,
    pub(crate) id: MessageId,
    /// In milliseconds.
    pub(crate) due: u64,
    /// Its partition; without a key it may be in any.
    partition: Option<Partition>,
}

impl Cancellation {
    pub(crate) fn new(topic: Arc<TopicEntry>, delayed: Delayed) -> Self {
        let partition = delayed.key.map(|key| partition_of(&key, topic.topic.ordering.partitions()));
        Self { topic, id: delayed.id, due: delayed.not_before.as_millis(), partition }
    }

    /// Whether the message may be in this queue of a group.
    pub(crate) fn is_in(&self, queue: u32) -> bool {
        self.topic.routes.iter().any(|route| match self.partition {
            Some(Partition(partition)) => queue == route.first_queue + partition,
            None => (route.first_queue..route.first_queue + self.topic.topic.ordering.partitions()).contains(&queue),
        })
    }

    /// Whether it cancels this message.
    pub(crate) fn matches(&self, message: &Message) -> bool {
        message.id == self.id
            && message.topic == self.topic.topic.name
            && message.not_before.is_some_and(|due| due.as_millis() == self.due)
    }
}
