//! The names of the broker's objects.
//!
//! Our names are valid there as they are. A colon, which they cannot contain, joins them.

use partitura_broker::{InboxAddress, Partition, SubscriptionName, TopicName};

/// The address of messages that ask whether everything before them was handled. It has no queue.
pub(crate) const SYNC: &str = "partitura.sync";
/// The beginning of the name of every inbox.
const INBOX: &str = "partitura:inbox:";

/// The address of a topic.
pub(crate) fn address(topic: &TopicName) -> String {
    format!("partitura:{topic}")
}

/// The queue that describes a topic. It never has a message.
pub(crate) fn description(topic: &TopicName) -> String {
    format!("partitura:{topic}:topic")
}

/// The address and the queue of the delayed messages of a topic.
pub(crate) fn due(topic: &TopicName) -> String {
    format!("partitura:{topic}:due")
}

/// The queue of one subscription for one partition of a topic. A shared topic has partition 0.
pub(crate) fn queue(topic: &TopicName, subscription: &SubscriptionName, partition: Partition) -> String {
    format!("partitura:{topic}:{subscription}:{partition}")
}

/// The address by which members of a subscription reach each other.
pub(crate) fn members(topic: &TopicName, subscription: &SubscriptionName) -> String {
    format!("partitura:{topic}:{subscription}:members")
}

/// A queue that one process reads for as long as it lives. `secret` keeps two of them apart.
pub(crate) fn own_queue(address: &str, secret: &str) -> String {
    format!("{address}:own:{secret}")
}

/// The address and the queue of the replies to one process.
pub(crate) fn inbox(secret: &str) -> String {
    format!("{INBOX}{secret}")
}

/// Whether this is the name of an inbox. An address comes from a request, and could be the name of any queue.
pub(crate) fn is_inbox(address: &str) -> bool {
    address.strip_prefix(INBOX).is_some_and(InboxAddress::is_secret)
}

/// The name by which a client reads a queue.
pub(crate) fn qualified(address: &str, queue: &str) -> String {
    format!("{address}::{queue}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_objects_have_the_same_name() {
        let names = ["topic", "due", "sync", "inbox", "own", "members", "0", "2048", "a", "a.b", "b"];
        let mut seen = HashSet::from([SYNC.to_owned(), inbox(&InboxAddress::secret())]);
        for topic in names.map(|name| TopicName::new(name).expect("a name")) {
            assert!(seen.insert(description(&topic)) && seen.insert(due(&topic)), "{topic}");
            for subscription in names.map(|name| SubscriptionName::new(name).expect("a name")) {
                assert!(seen.insert(members(&topic, &subscription)), "{topic} and {subscription}");
                for partition in [0, 2_048] {
                    assert!(seen.insert(queue(&topic, &subscription, Partition(partition))), "{topic}, {subscription}");
                }
            }
        }
    }

    #[test]
    fn only_inboxes_are_inboxes() {
        assert!(is_inbox(&inbox(&InboxAddress::secret())));
        for other in ["partitura:inbox:topic", "partitura:orders", "partitura:inbox:", ""] {
            assert!(!is_inbox(other), "{other}");
        }
    }
}
