//! The vocabulary of the core: its settings, its time, and its outputs.

use std::time::Duration;

use partitura_broker::{AckToken, Delivery, Message, Partition, Timestamp, TopicName};

use crate::{Batch, Retry, Trials};

/// The options that the core needs.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) concurrency: usize,
    pub(crate) batch: usize,
    pub(crate) retry: Retry,
    /// Whether keys have an order.
    pub(crate) ordered: bool,
    /// Whether a message may come only of a partition that was assigned.
    pub(crate) assigned: bool,
    pub(crate) parking: Option<Parking>,
    /// With how many crashes a message is given up; 0: it never is.
    pub(crate) crashes: u32,
    /// Number of redelivered messages of a partition that a former owner may have begun: those that come first.
    pub(crate) most_begun: usize,
    pub(crate) trials: Trials,
    /// Distinguishes the markers of this consumer, and seeds the jitter.
    pub(crate) seed: u64,
}

impl Settings {
    /// Whether a message with which the process was lost this often is not run again.
    pub(super) fn is_given_up(&self, crashes: u32) -> bool {
        self.crashes > 0 && crashes >= self.crashes
    }
}

/// When and where to park.
#[derive(Debug, Clone)]
pub(crate) struct Parking {
    pub(crate) topic: TopicName,
    pub(crate) hold: Duration,
    pub(crate) behind: usize,
    /// With this many parked messages in memory, room is made.
    pub(crate) full_messages: usize,
    pub(crate) full_bytes: usize,
}

/// The time: of a clock that never jumps, from any start, and of the one on the wall.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Now {
    pub(crate) steady: Duration,
    pub(crate) wall: Timestamp,
}

/// A lane, for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl LaneId {
    /// Unique among the lanes that exist.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

/// A batch to run.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) lane: LaneId,
    pub(crate) batch: Batch,
    /// Why the message is given up instead of being run.
    pub(crate) given_up: Option<String>,
}

/// The work that the core asks for, apart from batches to run.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    /// Tokens to settle, in no order.
    pub(crate) settle: Vec<AckToken>,
    /// Tokens to settle when all other settlements so far are flushed.
    pub(crate) settle_late: Vec<AckToken>,
    /// Dead letters to publish.
    pub(crate) burials: Vec<Burial>,
    /// Markers to publish.
    pub(crate) markers: Vec<Marker>,
    /// Messages to park, all at once and in this order.
    pub(crate) moves: Vec<Move>,
    /// Partitions to release: nothing of them is under way any more.
    pub(crate) released: Vec<Partition>,
}

impl Actions {
    /// Moves all of `other` behind these. Both keep their buffers.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.settle.append(&mut other.settle);
        self.settle_late.append(&mut other.settle_late);
        self.burials.append(&mut other.burials);
        self.markers.append(&mut other.markers);
        self.moves.append(&mut other.moves);
        self.released.append(&mut other.released);
    }
}

/// A dead letter to publish.
#[derive(Debug)]
pub(crate) struct Burial {
    pub(crate) lane: LaneId,
    pub(crate) delivery: Delivery,
    pub(crate) attempts: u32,
    pub(crate) death: Death,
}

/// Why a message is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) reason: String,
    pub(crate) error: Option<String>,
}

/// A message to publish to the parking topic, in place of the one with this token.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) moved: Moved,
    pub(crate) message: Message,
}

/// The message that is moved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) lane: LaneId,
    pub(crate) token: AckToken,
}

/// A marker to publish to the parking topic: everything parked before it is known when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) partition: Partition,
    /// The term of ownership that it belongs to.
    pub(crate) term: u64,
}
