//! From our names and numbers to those of Kafka.
//!
//! A topic keeps its name, so that other Kafka programs find it. The adapter's own topics begin with an underscore,
//! with which no name of ours begins.

use partitura_broker::{SubscriptionName, TopicName, joined};

/// The length of the longest name of a topic on Kafka.
const LONGEST: usize = 249;

/// The topic of replies to inboxes.
pub(crate) const REPLIES: &str = "_partitura.replies";

/// The topic that holds the delayed messages of a topic. It has as many partitions.
pub(crate) fn timers(topic: &TopicName) -> String {
    format!("_partitura.timers.{topic}")
}

/// The log in which the members of a subscription of a shared topic claim messages.
pub(crate) fn claims(topic: &TopicName, subscription: &SubscriptionName) -> String {
    const BEGINNING: &str = "_partitura.claims.";
    format!("{BEGINNING}{}", joined(topic, subscription, LONGEST - BEGINNING.len()))
}

/// The consumer group of a subscription: one for each set of topics, named after the first topic by name.
pub(crate) fn group<'t>(subscription: &SubscriptionName, topics: impl IntoIterator<Item = &'t TopicName>) -> String {
    let first = topics.into_iter().min().map_or("", TopicName::as_str);
    format!("{subscription}@{first}")
}

/// Kafka's number of a partition.
pub(crate) fn partition(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use partitura_broker::MAX_NAME;

    use super::*;

    #[test]
    fn every_name_fits_and_differs() {
        let topic = |end: &str| TopicName::new("t".repeat(MAX_NAME - 1) + end).expect("a valid name");
        let subscription = SubscriptionName::new("s".repeat(MAX_NAME)).expect("a valid name");
        let (a, b) = (claims(&topic("a"), &subscription), claims(&topic("b"), &subscription));
        assert!(a != b && a.len() <= LONGEST && timers(&topic("a")).len() <= LONGEST, "{a}, {b}");
    }

    #[test]
    fn two_subscriptions_of_two_topics_never_meet() {
        let claims = |topic: &str, subscription: &str| {
            let subscription = SubscriptionName::new(subscription).expect("a valid name");
            claims(&TopicName::new(topic).expect("a valid name"), &subscription)
        };
        assert_eq!(claims("orders", "billing"), "_partitura.claims.orders.billing");
        assert_ne!(claims("amb", "s.x"), claims("amb.s", "x"));
    }

    #[test]
    fn a_group_is_named_after_the_first_topic_in_whatever_order() {
        let [a, b] = ["a", "b"].map(|name| TopicName::new(name).expect("a valid name"));
        let subscription = SubscriptionName::new("s").expect("a valid name");
        assert_eq!(group(&subscription, [&b, &a]), "s@a");
        assert_eq!(group(&subscription, [&a, &b]), "s@a");
    }
}
