//! An adapter's knowledge of topics that a broker describes by a text.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use partitura_broker::{Error, ErrorKind, Ordering, Topic, TopicKind, TopicName};

/// The topics that were looked up so far.
#[derive(Debug, Default)]
pub struct TopicCache(Mutex<HashMap<TopicName, Topic>>);

impl TopicCache {
    /// A topic that was looked up before.
    pub fn get(&self, name: &TopicName) -> Option<Topic> {
        self.known().get(name).cloned()
    }

    /// Keeps a topic.
    pub fn insert(&self, topic: Topic) {
        self.known().insert(topic.name.clone(), topic);
    }

    /// Forgets a topic, since it may have changed.
    pub fn remove(&self, name: &TopicName) {
        self.known().remove(name);
    }

    /// Empties the cache, since a topic may have changed.
    pub fn clear(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, HashMap<TopicName, Topic>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Describes a topic in a text that is kept at the broker: `queue:8` is a queue of eight partitions.
pub fn describe_topic(topic: &Topic) -> String {
    let kind = kind(topic);
    match topic.ordering {
        Ordering::ByKey { partitions } => format!("{kind}:{partitions}"),
        Ordering::Shared => format!("{kind}:shared"),
    }
}

/// Reads what [`describe_topic`] wrote. `None`: it did not.
pub fn parse_topic(name: &TopicName, description: &str) -> Option<Topic> {
    let (kind, ordering) = description.split_once(':')?;
    let kind = match kind {
        "queue" => TopicKind::Queue,
        "stream" => TopicKind::Stream,
        _ => return None,
    };
    let ordering = match ordering {
        "shared" => Ordering::Shared,
        partitions => Ordering::ByKey { partitions: partitions.parse().ok().filter(|partitions| *partitions > 0)? },
    };
    Some(Topic { name: name.clone(), kind, ordering })
}

/// The error of a topic that exists and is not as declared.
pub fn topic_differs(expected: &Topic, found: &Topic) -> Error {
    let message = format!(
        "the topic exists and differs: expected {}, found {}. Declare it as it is, or use another name",
        in_words(expected),
        in_words(found)
    );
    Error::new(ErrorKind::Incompatible, "declare", message).of(&expected.name)
}

fn in_words(topic: &Topic) -> String {
    let kind = kind(topic);
    match topic.ordering {
        Ordering::ByKey { partitions } => format!("a {kind} of {partitions} partitions"),
        Ordering::Shared => format!("a shared {kind}"),
    }
}

fn kind(topic: &Topic) -> &'static str {
    match topic.kind {
        TopicKind::Queue => "queue",
        TopicKind::Stream => "stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_read_back_from_its_description() {
        let name = TopicName::new("orders").expect("a name");
        for kind in [TopicKind::Queue, TopicKind::Stream] {
            for ordering in [Ordering::Shared, Ordering::ByKey { partitions: 1 }, Ordering::ByKey { partitions: 8 }] {
                let topic = Topic { name: name.clone(), kind, ordering };
                assert_eq!(parse_topic(&name, &describe_topic(&topic)), Some(topic));
            }
        }
        for strange in ["pile:8", "queue", "queue:0", "queue:many", ""] {
            assert_eq!(parse_topic(&name, strange), None, "{strange}");
        }
    }
}
