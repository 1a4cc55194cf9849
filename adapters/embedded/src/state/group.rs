use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use partitura_broker::Message;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::queue::Place;

/// A durable subscription while it is open.
#[derive(Debug)]
pub(super) struct Group {
    /// Of each topic: partition `p` of it is the queue `first + p`.
    pub(super) first_queues: Vec<u32>,
    pub(super) shared: bool,
    /// The consumers, in the order of joining.
    pub(super) members: Vec<u32>,
    pub(super) partitions: Vec<Tenure>,
    pub(super) delayed: BinaryHeap<Delayed>,
    /// Wakes competing consumers, as many as there are new messages. Unused where partitions have owners.
    pub(super) competing: Arc<Notify>,
}

/// Who owns a partition, and how it changes hands.
#[derive(Debug, Default)]
pub(super) struct Tenure {
    pub(super) owner: Option<u32>,
    /// Who it is meant for; the owner, unless it is changing hands.
    pub(super) heir: Option<u32>,
    /// Of the present owner, or the last.
    pub(super) epoch: u32,
    /// Until when the owner may keep what is wanted elsewhere.
    pub(super) revoked_until: Option<Instant>,
    /// Whether the owner was told that it is theirs.
    pub(super) announced: bool,
    /// Whether the owner has it in its list of partitions to look at.
    pub(super) hot: bool,
    /// Deliveries of it that are being settled by a commit whose outcome is not known yet. They keep the next owner out.
    pub(super) committing: u32,
}

/// A message that waits for its time, and where it then belongs. What is first due is the greatest, for the heap.
#[derive(Debug)]
pub(super) struct Delayed {
    pub(super) place: Place,
    pub(super) queue: u32,
    pub(super) size: u32,
    /// Kept where it is due soon; of the others only the place is in memory.
    pub(super) content: Option<Box<Message>>,
}

impl Delayed {
    fn order(&self) -> (Place, u32) {
        (self.place, self.queue)
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> Ordering {
        other.order().cmp(&self.order())
    }
}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Delayed {}

impl Group {
    pub(super) fn new(first_queues: Vec<u32>, partitions: u32, shared: bool) -> Self {
        Self {
            first_queues,
            shared,
            members: Vec::new(),
            partitions: (0..partitions).map(|_| Tenure::default()).collect(),
            delayed: BinaryHeap::new(),
            competing: Arc::new(Notify::new()),
        }
    }

    /// When the next message falls due, in milliseconds.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.delayed.peek().map(|first| first.place.ready_at)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.partitions.iter().filter_map(|tenure| tenure.revoked_until).min()
    }
}

impl Tenure {
    /// Whether messages of it may go to its owner.
    pub(super) fn is_open(&self) -> bool {
        self.owner.is_some() && self.revoked_until.is_none()
    }
}
