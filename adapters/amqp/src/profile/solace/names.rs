//! The names of the broker's topics and queues. A slash, which our names cannot contain, joins them.

use partitura_broker::{Partition, SubscriptionName, TopicName};

/// The broker's topic of the messages of a partition. A shared topic has partition 0.
pub(super) fn messages(topic: &TopicName, partition: &str) -> String {
    format!("partitura/t/{topic}/{partition}")
}

/// The broker's topic by which members of a subscription reach each other.
pub(super) fn members(topic: &TopicName, subscription: &SubscriptionName) -> String {
    format!("partitura/m/{topic}/{subscription}")
}

/// The queue of one subscription for one partition of a topic.
pub(super) fn queue(topic: &TopicName, subscription: &SubscriptionName, partition: Partition) -> String {
    format!("partitura/{topic}/{subscription}/{partition}")
}

/// The queue whose first message describes a topic.
pub(super) fn description(topic: &TopicName) -> String {
    format!("partitura/{topic}/topic")
}

/// The queue of the delayed messages of a topic.
pub(super) fn due(topic: &TopicName) -> String {
    format!("partitura/{topic}/due")
}
