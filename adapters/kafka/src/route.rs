//! The properties of a topic that producers and consumers need.
//!
//! A topic's configuration has no room for anything of ours. So its *label*, kind and ordering, is in the value of
//! `min.compaction.lag.ms`. The setting means nothing to a topic that is not compacted, and is written with the topic
//! in one step. The rest of that number tells the topic from others of its name: see [`birth`].

use partitura_broker::{Ordering, Topic, TopicKind, TopicName};

use crate::{birth, names};

/// A topic as producers and consumers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) partitions: u32,
    pub(crate) shared: bool,
    /// `None` if the topic has no label.
    pub(crate) kind: Option<TopicKind>,
    /// The topic that holds its delayed messages.
    pub(crate) timers: String,
}

impl Route {
    /// The route of a topic that is as declared.
    pub(crate) fn declared(topic: &Topic) -> Self {
        Self {
            partitions: topic.ordering.partitions(),
            shared: topic.ordering == Ordering::Shared,
            kind: Some(topic.kind),
            timers: names::timers(&topic.name),
        }
    }

    /// Whether each partition has one owner, the member of the queue's only subscription, that can forward its delayed
    /// messages.
    pub(crate) fn is_forwarded_by_owners(&self) -> bool {
        self.kind == Some(TopicKind::Queue) && !self.shared
    }

    /// The route of an existing topic with this number in the setting of the label.
    pub(crate) fn found(topic: &TopicName, partitions: u32, label: Option<u64>) -> Self {
        let (kind, shared) = label.map_or((None, false), read_label);
        Self { partitions, shared, kind, timers: names::timers(topic) }
    }
}

/// The label of a topic.
pub(crate) fn label(topic: &Topic) -> u8 {
    match (topic.kind, topic.ordering) {
        (TopicKind::Queue, Ordering::ByKey { .. }) => 1,
        (TopicKind::Stream, Ordering::ByKey { .. }) => 2,
        (TopicKind::Queue, Ordering::Shared) => 3,
        (TopicKind::Stream, Ordering::Shared) => 4,
    }
}

/// The kind, and whether the topic is shared.
fn read_label(label: u64) -> (Option<TopicKind>, bool) {
    match birth::label(label) {
        1 => (Some(TopicKind::Queue), false),
        2 => (Some(TopicKind::Stream), false),
        3 => (Some(TopicKind::Queue), true),
        4 => (Some(TopicKind::Stream), true),
        _ => (None, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_kind_and_ordering_and_a_strangers_says_nothing() {
        for kind in [TopicKind::Queue, TopicKind::Stream] {
            for ordering in [Ordering::Shared, Ordering::ByKey { partitions: 3 }] {
                let topic = Topic { name: TopicName::new("t").expect("a valid name"), kind, ordering };
                let setting = birth::labelled(label(&topic));
                for written in [u64::from(label(&topic)), setting.value.parse().expect("a number")] {
                    assert_eq!(read_label(written), (Some(kind), ordering == Ordering::Shared));
                }
            }
        }
        assert_eq!(read_label(0), (None, false));
    }
}
