//! The names of the broker's objects.
//!
//! Our names are valid there as they are. A colon, which they cannot contain, joins them. A long name is cut and gets a
//! hash: RabbitMQ takes no more than 255 bytes, and repeats no more than that in an error.

use std::borrow::Cow;

use partitura_broker::{InboxAddress, Partition, SubscriptionName, TopicName};

/// The exchange to which delayed messages are published, with the routing key of [`delayed`].
pub(crate) const LATER: &str = "partitura:later";
/// The exchange to which they go when they may be due.
pub(crate) const DUE: &str = "partitura:due";
/// The exchange and the queue for messages whose topic has no `due` queue when they fall due.
pub(crate) const UNDELIVERABLE: &str = "partitura:undeliverable";
/// The beginning of the name of every inbox.
const INBOX: &str = "partitura:inbox:";
/// The beginning of every description of a topic.
pub(crate) const DESCRIPTION: &str = "partitura:";

/// The longest part of a name that is not cut.
const MAX_PART: usize = 48;

/// The names of topics whose exchanges would have the names of the exchanges for delays.
const RESERVED: [&str; 3] = ["later", "due", "undeliverable"];

/// The exchange of a topic.
pub(crate) fn exchange(topic: &TopicName) -> String {
    format!("partitura:{}", short(topic.as_str()))
}

/// The queue of one subscription for one partition of a topic. A shared topic has partition 0.
pub(crate) fn queue(topic: &TopicName, subscription: &SubscriptionName, partition: Partition) -> String {
    format!("partitura:{}:{}:{partition}", short(topic.as_str()), short(subscription.as_str()))
}

/// The exclusive queue that is the lock of a partition's owner.
pub(crate) fn owner(queue: &str) -> String {
    format!("{queue}:owner")
}

/// The queue of the replies to one process.
pub(crate) fn inbox(secret: &str) -> String {
    format!("{INBOX}{secret}")
}

/// Whether this is the name of an inbox. An address comes from a request, and could be the name of any queue.
pub(crate) fn is_inbox(address: &str) -> bool {
    address.strip_prefix(INBOX).is_some_and(InboxAddress::is_secret)
}

/// The queue of the messages of a topic that may be due.
pub(crate) fn due(topic: &TopicName) -> String {
    format!("partitura:{}:due", short(topic.as_str()))
}

/// The routing key by which members of a subscription reach each other, at the exchange of its first topic.
pub(crate) fn members(subscription: &SubscriptionName) -> String {
    format!("members:{}", short(subscription.as_str()))
}

/// The queue in which messages wait for this number of milliseconds.
pub(crate) fn wait_queue(millis: u64) -> String {
    format!("partitura:later:{millis}")
}

/// The routing key of a delayed message: its wait queue, and its topic.
pub(crate) fn delayed(millis: u64, topic: &TopicName) -> String {
    format!("{millis}.{}", topic.as_str())
}

/// The binding of a wait queue: any topic.
pub(crate) fn any_topic(millis: u64) -> String {
    format!("{millis}.#")
}

/// The binding of a topic's [`due`] queue: any wait queue.
pub(crate) fn any_wait_queue(topic: &TopicName) -> String {
    format!("*.{}", topic.as_str())
}

fn short(name: &str) -> Cow<'_, str> {
    if name.len() <= MAX_PART && !RESERVED.contains(&name) {
        return name.into();
    }
    // Our names have no tilde, so a cut name is never the whole name of another.
    format!("{}~{:016x}", &name[..name.len().min(MAX_PART - 17)], fnv1a(name)).into()
}

/// The hash of Fowler, Noll and Vo, variant 1a. It is fixed for ever, since names must not change.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use partitura_broker::MAX_NAME;

    use super::*;

    #[test]
    fn names_are_readable_and_fit() {
        let (topic, subscription) = (TopicName::new("orders.v2"), SubscriptionName::new("billing"));
        let (topic, subscription) = (topic.expect("a name"), subscription.expect("a name"));
        assert_eq!(queue(&topic, &subscription, Partition(3)), "partitura:orders.v2:billing:3");
        assert_eq!(delayed(64, &topic), "64.orders.v2");
        let long = |last: char| TopicName::new("x".repeat(MAX_NAME - 1) + &last.to_string()).expect("a name");
        let longest = SubscriptionName::new("y".repeat(MAX_NAME)).expect("a name");
        assert!(owner(&queue(&long('a'), &longest, Partition(u32::MAX))).len() <= 255);
        assert_ne!(exchange(&long('a')), exchange(&long('b')), "names that differ at the end");
    }

    #[test]
    fn no_two_objects_have_the_same_name() {
        let names = ["later", "due", "undeliverable", "inbox", "owner", "members", "0", "2048", "a", "a.b", "b"];
        let mut seen = HashSet::from([LATER, DUE, UNDELIVERABLE].map(str::to_owned));
        seen.extend([wait_queue(2_048), inbox("0")]);
        for topic in names.map(|name| TopicName::new(name).expect("a name")) {
            assert!(seen.insert(exchange(&topic)) && seen.insert(due(&topic)), "{topic}");
            for subscription in names.map(|name| SubscriptionName::new(name).expect("a name")) {
                for partition in [0, 2_048] {
                    let queue = queue(&topic, &subscription, Partition(partition));
                    assert!(seen.insert(owner(&queue)) && seen.insert(queue), "{topic} and {subscription}");
                }
            }
        }
    }

    #[test]
    fn the_hash_gives_the_reference_values() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }
}
