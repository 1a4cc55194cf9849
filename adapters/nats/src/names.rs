//! From our names to those of the server.
//!
//! ```text
//! stream    PREFIX_TOPIC                 a topic
//! subjects  PREFIX.TOPIC.P               the messages of partition P
//!           PREFIX.TOPIC.P.at.ID         a message of partition P that is not due yet
//! consumer  SUBSCRIPTION+P               partition P of an ordered subscription
//!           SUBSCRIPTION                 a shared subscription
//!           listener-UUID                a broadcast
//! inbox     _INBOX.partitura.SECRET      the replies to one process
//! ```
//!
//! Of the characters of our names only the dot has a meaning for the server. It becomes `=`, which our names do not
//! have.

use partitura_broker::{InboxAddress, MessageId, Partition, SubscriptionName, TopicName};

/// The beginning of the addresses of inboxes.
const INBOX: &str = "_INBOX.partitura.";

/// The name of a topic or subscription, without dots.
fn token(name: &str) -> String {
    name.replace('.', "=")
}

/// The stream of a topic.
pub(crate) fn stream(prefix: &str, topic: &TopicName) -> String {
    format!("{prefix}_{}", token(topic.as_str()))
}

/// The subject of a topic's partition.
pub(crate) fn subject(prefix: &str, topic: &TopicName, partition: Partition) -> String {
    format!("{prefix}.{}.{partition}", token(topic.as_str()))
}

/// The subjects of all partitions of a topic.
pub(crate) fn subjects(prefix: &str, topic: &TopicName) -> String {
    format!("{prefix}.{}.*", token(topic.as_str()))
}

/// The subjects of all messages of a topic that are not due yet.
pub(crate) fn schedules(prefix: &str, topic: &TopicName) -> String {
    format!("{prefix}.{}.*.at.>", token(topic.as_str()))
}

/// The subject on which a message waits until it is due. It is the message's own, since a later message replaces the
/// earlier one on its subject. The id is escaped, not hashed: two ids never become the same, and operators can find
/// an id.
pub(crate) fn schedule(partition_subject: &str, id: &MessageId) -> String {
    let mut subject = format!("{partition_subject}.at.");
    for c in id.as_str().chars() {
        match c {
            '.' | '*' | '>' | '%' => subject.push_str(&format!("%{:02X}", u32::from(c))),
            _ => subject.push(c),
        }
    }
    subject
}

/// The partition that a message was stored in, by its subject.
pub(crate) fn partition(subject: &str) -> Option<Partition> {
    subject.rsplit('.').next()?.parse().ok().map(Partition)
}

/// The consumer of one partition of an ordered subscription.
pub(crate) fn owned_consumer(subscription: &SubscriptionName, partition: Partition) -> String {
    format!("{}+{partition}", token(subscription.as_str()))
}

/// The consumer from which all members of a shared subscription take messages.
pub(crate) fn shared_consumer(subscription: &SubscriptionName) -> String {
    token(subscription.as_str())
}

/// The address of a new inbox, which nobody can guess.
pub(crate) fn new_inbox() -> String {
    format!("{INBOX}{}", InboxAddress::secret())
}

/// Whether an address is that of an inbox. An address comes from a request, and may be any subject.
pub(crate) fn is_inbox(address: &str) -> bool {
    address.strip_prefix(INBOX).is_some_and(InboxAddress::is_secret)
}

/// The consumer of a new listener to a stream.
pub(crate) fn new_listener() -> String {
    format!("listener-{}", uuid::Uuid::now_v7().simple())
}

/// The subject of the heartbeats between the members of a subscription.
pub(crate) fn heartbeats(prefix: &str, first_topic: &TopicName, subscription: &SubscriptionName) -> String {
    format!("{prefix}.members.{}.{}", token(first_topic.as_str()), token(subscription.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).expect("a valid name")
    }

    #[test]
    fn dots_do_not_make_levels() {
        let topic = topic("orders.v2");
        assert_eq!(stream("p", &topic), "p_orders=v2");
        assert_eq!(subject("p", &topic, Partition(3)), "p.orders=v2.3");
        assert_eq!(partition("p.orders=v2.3"), Some(Partition(3)));
        let subscription = SubscriptionName::new("a.b").expect("a valid name");
        assert_eq!(owned_consumer(&subscription, Partition(3)), "a=b+3");
        assert_eq!(shared_consumer(&subscription), "a=b");
    }

    #[test]
    fn different_ids_wait_on_different_subjects() {
        let ids = ["a.b", "a%2Eb", "a*", "a>", "a"];
        let subjects: Vec<_> = ids.iter().map(|id| schedule("p.t.0", &MessageId::from(*id))).collect();
        assert_eq!(subjects[0], "p.t.0.at.a%2Eb");
        for (i, subject) in subjects.iter().enumerate() {
            assert!(!subjects[..i].contains(subject), "{subject}");
            assert!(!subject.contains(['*', '>']), "{subject}");
        }
    }
}
