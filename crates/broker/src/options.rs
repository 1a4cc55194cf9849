use std::num::NonZeroUsize;
use std::time::Duration;

use crate::{Error, ErrorKind, Result, SubscriptionName, TopicName};

/// How a producer behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProducerOptions {
    /// How many messages may be unconfirmed before [`Producer::publish`](crate::Producer::publish) waits.
    pub window: NonZeroUsize,
    /// How long a confirm may take before the outcome counts as unknown.
    pub confirm_within: Duration,
}

impl Default for ProducerOptions {
    /// A window of 10,000 messages, and 30 s for a confirm.
    fn default() -> Self {
        Self { window: NonZeroUsize::new(10_000).unwrap_or(NonZeroUsize::MIN), confirm_within: Duration::from_secs(30) }
    }
}

/// Which subscription to join, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConsumerOptions {
    /// The topics, all of them covered by one declared subscription of that name. For an ordered subscription they
    /// have equally many partitions, and partition *n* of all of them has the same owner. A broadcast has one topic.
    pub topics: Vec<TopicName>,
    /// The durable subscription to join; `None` is a broadcast: everything from now on, to this consumer, not durable.
    pub subscription: Option<SubscriptionName>,
    /// How much may be unsettled at once, of each of the topics.
    pub credit: Credit,
    /// How long a revoked partition may be held to finish what runs.
    pub revoke_within: Duration,
}

impl ConsumerOptions {
    /// Joins `subscription`, which covers `topics`.
    pub fn new(subscription: SubscriptionName, topics: impl IntoIterator<Item = TopicName>) -> Self {
        Self {
            topics: topics.into_iter().collect(),
            subscription: Some(subscription),
            credit: Credit::default(),
            revoke_within: Duration::from_secs(10),
        }
    }

    /// Listens to everything published to the stream `topic` from now on.
    pub fn broadcast(topic: TopicName) -> Self {
        Self {
            topics: vec![topic],
            subscription: None,
            credit: Credit::default(),
            revoke_within: Duration::from_secs(10),
        }
    }

    /// Sets how much may be unsettled at once, of each of the topics.
    #[must_use]
    pub fn credit(mut self, credit: Credit) -> Self {
        self.credit = credit;
        self
    }

    /// Sets how long a revoked partition may be held.
    #[must_use]
    pub fn revoke_within(mut self, limit: Duration) -> Self {
        self.revoke_within = limit;
        self
    }

    /// Checks the parts that need no broker: every adapter calls this first.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument): no topic, a topic twice, or a broadcast of several topics.
    pub fn validate(&self) -> Result<()> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidArgument, "consume", message);
        if self.topics.is_empty() {
            return Err(invalid("a consumer needs at least one topic".into()));
        }
        if let Some(twice) = self.topics.iter().enumerate().find(|(i, topic)| self.topics[..*i].contains(topic)) {
            return Err(invalid("the topic is named twice".into()).of(twice.1));
        }
        match (&self.subscription, &self.topics[..]) {
            (None, [first, second, ..]) => {
                let message =
                    format!("a broadcast is of one topic, and not also of {second}; open a consumer for each");
                Err(invalid(message).of(first))
            }
            _ => Ok(()),
        }
    }
}

/// The bound on what a consumer holds unsettled of each of its topics; the broker keeps the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// Messages.
    pub messages: NonZeroUsize,
    /// Bytes of keys, headers and payloads.
    pub bytes: NonZeroUsize,
}

impl Default for Credit {
    /// 1,000 messages, 64 MiB.
    fn default() -> Self {
        let of = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self { messages: of(1_000), bytes: of(64 << 20) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broadcast_has_one_topic_and_a_subscription_each_of_its_topics_once() {
        let topic = |name: &str| TopicName::new(name).unwrap();
        let several = |names: &[&str]| {
            let topics = names.iter().map(|name| topic(name));
            ConsumerOptions::new(SubscriptionName::new("s").unwrap(), topics)
        };
        let listening = |names: &[&str]| ConsumerOptions { subscription: None, ..several(names) };
        assert!(several(&["a", "b"]).validate().is_ok() && listening(&["a"]).validate().is_ok());
        for (options, expected) in [
            (several(&[]), "at least one topic"),
            (listening(&[]), "at least one topic"),
            (several(&["a", "b", "a"]), "twice"),
            (listening(&["a", "b"]), "of one topic"),
        ] {
            let error = options.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
