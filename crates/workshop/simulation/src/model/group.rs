use std::collections::BTreeMap;

use partitura_broker::{Ordering, SubscriptionName, TopicName};

/// One durable subscription.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: SubscriptionName,
    pub(crate) topics: Vec<TopicName>,
    pub(crate) ordered: bool,
    pub(crate) parts: Vec<Part>,
    pub(crate) members: Vec<usize>,
    /// Turns the assignment around.
    pub(crate) offset: u64,
}

/// A partition of all topics of the subscription. A shared subscription has one, which has no owner.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) owner: Option<usize>,
    pub(crate) epoch: u32,
    pub(crate) revoking: bool,
    pub(crate) next_slot: u32,
    /// The topic and the place in it, by member, epoch and slot.
    pub(crate) outs: BTreeMap<(u32, u32, u32), (usize, u64)>,
}

impl Group {
    pub(crate) fn new(name: SubscriptionName, topics: Vec<TopicName>, ordering: Ordering) -> Self {
        let mut parts = Vec::new();
        parts.resize_with(ordering.partitions() as usize, Part::default);
        let ordered = ordering != Ordering::Shared;
        Self { name, topics, ordered, parts, members: Vec::new(), offset: 0 }
    }

    pub(crate) fn is(&self, name: &SubscriptionName, topics: &[TopicName]) -> bool {
        self.name == *name && self.topics == topics
    }
}
