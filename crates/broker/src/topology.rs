use crate::{Error, ErrorKind, Result, SubscriptionName, TopicName};

/// Topics and their durable subscriptions, declared together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Whether to create missing objects, or only to verify.
    pub mode: DeclareMode,
    /// The topics.
    pub topics: Vec<Topic>,
    /// The durable subscriptions of these topics.
    pub subscriptions: Vec<Subscription>,
}

/// The actions that [`declare`](crate::Broker::declare) may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeclareMode {
    /// Create missing objects, verify existing ones.
    #[default]
    Create,
    /// Create nothing: a missing object is an error.
    Verify,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// The subscriptions that get its messages.
    pub kind: TopicKind,
    /// Whether keys have an order.
    pub ordering: Ordering,
}

/// The subscriptions that get the messages of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicKind {
    /// Exactly one subscription; a message is gone once it is settled. For commands.
    Queue,
    /// Any number of subscriptions, none included; each gets every message. Kept at least until each durable
    /// subscription has settled it. For events.
    Stream,
}

/// Whether, and how, a topic keeps order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// By key, in this many partitions. The number is fixed when the topic is declared, and verified afterwards.
    ByKey {
        /// At least 1.
        partitions: u32,
    },
    /// None: any number of consumers compete for single messages.
    Shared,
}

impl Ordering {
    /// The number of partitions; 1 where there is no order.
    pub const fn partitions(self) -> u32 {
        match self {
            Self::ByKey { partitions } => partitions,
            Self::Shared => 1,
        }
    }
}

/// A durable subscription: a place in one topic, or the same place in several that are partitioned alike.
///
/// Several topics are owned together: partition *n* of all of them has one owner. This is how a parking topic stays
/// with its main topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its name, unique per topic.
    pub name: SubscriptionName,
    /// The topics it covers, at least one, all with the same [`Ordering`].
    pub topics: Vec<TopicName>,
}

impl Topology {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a queue.
    #[must_use]
    pub fn queue(self, name: TopicName, ordering: Ordering) -> Self {
        self.topic(Topic { name, kind: TopicKind::Queue, ordering })
    }

    /// Adds a stream.
    #[must_use]
    pub fn stream(self, name: TopicName, ordering: Ordering) -> Self {
        self.topic(Topic { name, kind: TopicKind::Stream, ordering })
    }

    /// Adds a topic.
    #[must_use]
    pub fn topic(mut self, topic: Topic) -> Self {
        self.topics.push(topic);
        self
    }

    /// Adds a durable subscription to topics of this topology, or to topics that were declared before.
    #[must_use]
    pub fn subscription(mut self, name: SubscriptionName, topics: impl IntoIterator<Item = TopicName>) -> Self {
        self.subscriptions.push(Subscription { name, topics: topics.into_iter().collect() });
        self
    }

    /// Create nothing, only verify.
    #[must_use]
    pub fn verify_only(mut self) -> Self {
        self.mode = DeclareMode::Verify;
        self
    }

    /// Checks the rules that need no broker: every adapter calls this first.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) naming the topic or subscription: no partitions, a topic twice
    /// with different properties, a subscription without topics or over topics that are ordered differently, a queue
    /// with a second subscription.
    pub fn validate(&self) -> Result<()> {
        let invalid = |subject: &dyn std::fmt::Display, message: String| {
            Err(Error::new(ErrorKind::InvalidArgument, "declare", message).of(subject))
        };
        for (i, topic) in self.topics.iter().enumerate() {
            if topic.ordering == (Ordering::ByKey { partitions: 0 }) {
                return invalid(&topic.name, "a topic needs at least 1 partition".into());
            }
            if self.topics[..i].iter().any(|other| other.name == topic.name && other != topic) {
                return invalid(&topic.name, "declared twice, with different properties".into());
            }
        }
        for (i, subscription) in self.subscriptions.iter().enumerate() {
            let Some(first) = subscription.topics.first() else {
                return invalid(&subscription.name, "a subscription needs at least one topic".into());
            };
            let find = |name: &TopicName| self.topics.iter().find(|topic| topic.name == *name);
            for name in &subscription.topics {
                if let (Some(a), Some(b)) = (find(first), find(name))
                    && a.ordering != b.ordering
                {
                    let message = format!(
                        "covers {first} ({:?}) and {name} ({:?}); topics of one subscription are ordered alike",
                        a.ordering, b.ordering
                    );
                    return invalid(&subscription.name, message);
                }
                let queue = find(name).is_some_and(|topic| topic.kind == TopicKind::Queue);
                let second = self.subscriptions[..i]
                    .iter()
                    .find(|other| other.topics.contains(name) && other.name != subscription.name);
                if let (true, Some(other)) = (queue, second) {
                    let message = format!(
                        "{name} is a queue and has the subscription {} already; declare it as a stream to give it several",
                        other.name
                    );
                    return invalid(&subscription.name, message);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn subscription(name: &str) -> SubscriptionName {
        SubscriptionName::new(name).unwrap()
    }

    #[test]
    fn a_topology_that_contradicts_itself_is_refused_with_the_reason() {
        let four = Ordering::ByKey { partitions: 4 };
        for (topology, expected) in [
            (Topology::new().queue(topic("a"), Ordering::ByKey { partitions: 0 }), "at least 1 partition"),
            (Topology::new().queue(topic("a"), four).stream(topic("a"), four), "declared twice"),
            (Topology::new().subscription(subscription("s"), []), "at least one topic"),
            (
                Topology::new()
                    .queue(topic("a"), four)
                    .queue(topic("b"), Ordering::Shared)
                    .subscription(subscription("s"), [topic("a"), topic("b")]),
                "ordered alike",
            ),
            (
                Topology::new()
                    .queue(topic("a"), four)
                    .subscription(subscription("s"), [topic("a")])
                    .subscription(subscription("t"), [topic("a")]),
                "is a queue",
            ),
        ] {
            let error = topology.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_stream_may_have_several_subscriptions() {
        let topology = Topology::new()
            .stream(topic("a"), Ordering::Shared)
            .subscription(subscription("s"), [topic("a")])
            .subscription(subscription("t"), [topic("a")]);
        assert!(topology.validate().is_ok());
    }
}
