use std::time::Duration;

use crate::{Message, Partition};

/// An event of a consumer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// These partitions are owned from now on. Nothing of them is in flight anywhere, as far as the broker can tell.
    Assigned(Vec<Assignment>),
    /// Messages, in order within each partition.
    Deliveries(Vec<Delivery>),
    /// These partitions are wanted elsewhere. Take up nothing new of them, finish and settle running work, then
    /// [release](crate::Consumer::release) them. Partitions that are not released in time are [lost](Self::Lost).
    Revoking {
        /// The partitions.
        partitions: Vec<Partition>,
        /// How much time there is.
        within: Duration,
    },
    /// These partitions are gone: another may own them already. Settlements of theirs are void.
    Lost(Vec<Partition>),
}

/// One partition, and the term of its ownership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The partition, of each of the subscription's topics.
    pub partition: Partition,
    /// Grows with each change of the owner, as seen by this consumer.
    pub epoch: u32,
}

/// A message in the hands of a consumer, until it is settled.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message as it was published.
    pub message: Message,
    /// The partition it came from; 0 on a shared topic.
    pub partition: Partition,
    /// Whether it may have been delivered before. Never `false` on a redelivery; it may be `true` on a first delivery
    /// where the broker cannot tell.
    pub redelivered: bool,
    /// The token to settle it with.
    pub token: AckToken,
}

/// Names one delivery towards the broker that made it. Plain data: `Copy`, 16 bytes, no reference to anything.
///
/// A token is honoured only in the epoch in which it was given out, and once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AckToken {
    /// The consumer, as numbered by its broker.
    pub consumer: u32,
    /// The partition.
    pub partition: Partition,
    /// The term of ownership.
    pub epoch: u32,
    /// The adapter's own number of the delivery.
    pub slot: u32,
}
