//! From our names to Kafka's.
//!
//! A topic keeps its name, so that other Kafka programs find it. What the adapter keeps beside it begins with an
//! underscore, which none of our own names does.

use partitura_broker::{SubscriptionName, TopicName};

/// The longest name of a topic that Kafka takes.
const LONGEST: usize = 249;

/// Where replies to inboxes go.
pub(crate) const REPLIES: &str = "_partitura.replies";

/// Where delayed messages of a topic wait. It is partitioned like the topic.
pub(crate) fn timers(topic: &TopicName) -> String {
    format!("_partitura.timers.{topic}")
}

/// Where the members of a subscription of a shared topic claim messages.
pub(crate) fn claims(topic: &TopicName, subscription: &SubscriptionName) -> String {
    let name = format!("_partitura.claims.{topic}.{subscription}");
    if name.len() <= LONGEST {
        return name;
    }
    format!("_partitura.claims.{:016x}.{subscription}", fnv1a(name.as_bytes()))
}

/// The consumer group of a subscription: one for each set of topics, named after the first.
pub(crate) fn group<'t>(subscription: &SubscriptionName, topics: impl IntoIterator<Item = &'t TopicName>) -> String {
    let first = topics.into_iter().min().map_or("", TopicName::as_str);
    format!("{subscription}@{first}")
}

/// FNV-1a, 64 bits: short, and fixed for ever.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
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
    fn a_group_is_named_after_the_first_topic_in_whatever_order() {
        let [a, b] = ["a", "b"].map(|name| TopicName::new(name).expect("a valid name"));
        let subscription = SubscriptionName::new("s").expect("a valid name");
        assert_eq!(group(&subscription, [&b, &a]), "s@a");
        assert_eq!(group(&subscription, [&a, &b]), "s@a");
    }
}
