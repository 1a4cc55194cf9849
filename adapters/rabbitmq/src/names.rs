//! What things are called on the broker.
//!
//! Our names are valid there as they are. A colon, which they cannot contain, joins them; a name that is long is cut and
//! gets a hash, since RabbitMQ takes no more than 255 bytes, and repeats no more than that in an error.

use std::borrow::Cow;

use partitura_broker::{InboxAddress, Partition, SubscriptionName, TopicName};

/// Where delayed messages are published. The routing key is that of [`delayed`].
pub(crate) const LATER: &str = "partitura:later";
/// Where they go when they may be due.
pub(crate) const DUE: &str = "partitura:due";
/// The exchange and the queue for what found no topic any more when it fell due.
pub(crate) const UNDELIVERABLE: &str = "partitura:undeliverable";
/// What the name of every inbox begins with.
const INBOX: &str = "partitura:inbox:";
/// What every description of a topic begins with.
pub(crate) const DESCRIPTION: &str = "partitura:";

/// The longest part of a name.
const LONGEST: usize = 48;

/// Topics of these names would have the exchanges of the delays.
const TAKEN: [&str; 3] = ["later", "due", "undeliverable"];

/// The exchange of a topic.
pub(crate) fn exchange(topic: &TopicName) -> String {
    format!("partitura:{}", short(topic.as_str()))
}

/// What waits for one subscription in one partition of a topic; partition 0 where the topic is shared.
pub(crate) fn queue(topic: &TopicName, subscription: &SubscriptionName, partition: Partition) -> String {
    format!("partitura:{}:{}:{partition}", short(topic.as_str()), short(subscription.as_str()))
}

/// The lock of whoever owns that queue.
pub(crate) fn owner(queue: &str) -> String {
    format!("{queue}:owner")
}

/// Where replies to one process arrive.
pub(crate) fn inbox(secret: &str) -> String {
    format!("{INBOX}{secret}")
}

/// Whether this is the name of an inbox, and of nothing else that could be published to.
pub(crate) fn is_inbox(address: &str) -> bool {
    address.strip_prefix(INBOX).is_some_and(InboxAddress::is_secret)
}

/// What may be due of a topic.
pub(crate) fn due(topic: &TopicName) -> String {
    format!("partitura:{}:due", short(topic.as_str()))
}

/// The routing key by which members of a subscription reach each other, at the exchange of its first topic.
pub(crate) fn members(subscription: &SubscriptionName) -> String {
    format!("members:{}", short(subscription.as_str()))
}

/// The queue in which messages wait for so many milliseconds.
pub(crate) fn room(millis: u64) -> String {
    format!("partitura:later:{millis}")
}

/// The routing key of a delayed message: the room, and the topic it is for.
pub(crate) fn delayed(millis: u64, topic: &TopicName) -> String {
    format!("{millis}.{}", topic.as_str())
}

/// The binding of a room: whatever the topic.
pub(crate) fn any_topic(millis: u64) -> String {
    format!("{millis}.#")
}

/// The binding of a topic's [`due`] queue: whatever the room.
pub(crate) fn any_room(topic: &TopicName) -> String {
    format!("*.{}", topic.as_str())
}

fn short(name: &str) -> Cow<'_, str> {
    if name.len() <= LONGEST && !TAKEN.contains(&name) {
        return name.into();
    }
    // The tilde is no character of ours, so a cut name is never another one's whole name.
    format!("{}~{:016x}", &name[..name.len().min(LONGEST - 17)], fnv1a(name)).into()
}

/// Fowler, Noll and Vo's hash, variant 1a: fixed for ever, since names must not change.
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
    fn nothing_of_a_topic_is_called_like_anything_else() {
        let names = ["later", "due", "undeliverable", "inbox", "owner", "members", "0", "2048", "a", "a.b", "b"];
        let mut seen = HashSet::from([LATER, DUE, UNDELIVERABLE].map(str::to_owned));
        seen.extend([room(2_048), inbox("0")]);
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
