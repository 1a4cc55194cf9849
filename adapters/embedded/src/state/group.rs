use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use partitura_broker::{Message, MessageId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::queue::Place;

/// A durable subscription while it is open.
#[derive(Debug)]
pub(super) struct Group {
    /// For each topic, `first`: its partition `p` is the queue `first + p`.
    pub(super) first_queues: Vec<u32>,
    pub(super) shared: bool,
    /// The consumers, in the order of joining.
    pub(super) members: Vec<u32>,
    pub(super) partitions: Vec<Ownership>,
    pub(super) delayed: BTreeMap<Place, Delayed>,
    /// Wakes competing consumers, as many as there are new messages. Unused where partitions have owners.
    pub(super) competing: Arc<Notify>,
}

/// The owner of a partition, and the state of its hand-over.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    pub(super) owner: Option<u32>,
    /// The wanted owner; it is the owner, except during a hand-over.
    pub(super) wanted_owner: Option<u32>,
    /// The epoch of the present owner, or of the last one.
    pub(super) epoch: u32,
    /// The time until which the owner may keep a partition that is asked back.
    pub(super) revoked_until: Option<Instant>,
    /// Whether the owner was told that it owns the partition.
    pub(super) announced: bool,
    /// Whether the owner has it in its list of partitions to look at.
    pub(super) hot: bool,
    /// Deliveries that are being settled by a commit whose outcome is not known yet. The next owner waits for them.
    pub(super) committing: u32,
}

/// A message that waits for its time, and the queue that it joins then.
#[derive(Debug)]
pub(super) struct Delayed {
    pub(super) queue: u32,
    pub(super) size: u32,
    /// The hash that distinguishes it from others that are due at the same time; missing until it is read, if it comes
    /// from the file.
    pub(super) mark: Option<Mark>,
    /// The content, if it is due soon; of the others only the place is in memory.
    pub(super) content: Option<Box<Message>>,
}

/// A few bits of a message's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u32);

impl Mark {
    pub(super) fn from_id(id: &MessageId) -> Self {
        let mut hasher = DefaultHasher::new();
        id.as_str().hash(&mut hasher);
        Self(hasher.finish() as u32)
    }
}

impl Group {
    pub(super) fn new(first_queues: Vec<u32>, partitions: u32, shared: bool) -> Self {
        Self {
            first_queues,
            shared,
            members: Vec::new(),
            partitions: (0..partitions).map(|_| Ownership::default()).collect(),
            delayed: BTreeMap::new(),
            competing: Arc::new(Notify::new()),
        }
    }

    /// The time at which the next message is due, in milliseconds.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.delayed.keys().next().map(|first| first.ready_at)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.partitions.iter().filter_map(|ownership| ownership.revoked_until).min()
    }
}

impl Ownership {
    /// Whether messages of it may go to its owner.
    pub(super) fn is_open(&self) -> bool {
        self.owner.is_some() && self.revoked_until.is_none()
    }
}
