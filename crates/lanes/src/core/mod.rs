//! The state of the lanes of one consumer: a machine without I/O, clock or runtime.
//!
//! What happens is told by calling a method; what is to be done about it is then taken out: settlements, batches to
//! run, dead letters and parked messages to publish, partitions to release. Time is given with every call.
//!
//! # Invariants
//! 1. Of a lane at most one batch is under way.
//! 2. A token is settled after its message was done, or after another copy of the message was confirmed; and once.
//! 3. A lane runs in the order: what runs already, what is parked (by place), what came from the topic.
//! 4. Nothing of a partition is begun while it is being learned or revoked.

mod lane;
mod lanes;
mod markers;
mod outcome;
mod parking;
mod partition;
mod ranges;
mod wire;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{AckToken, Delivery, Message, Partition, Timestamp, TopicName};

use self::lane::{Entry, Lane, LaneState};
use self::parking::Moves;
use self::partition::Owned;
use crate::{Batch, Retry};

pub(crate) use self::lane::Death;
pub(crate) use self::wire::unplaced;

/// What the core needs to know of its options.
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
    /// Distinguishes the markers of this consumer, and seeds the jitter.
    pub(crate) seed: u64,
}

/// When and where to park.
#[derive(Debug, Clone)]
pub(crate) struct Parking {
    pub(crate) topic: TopicName,
    pub(crate) hold: Duration,
    pub(crate) behind: usize,
    /// So many parked messages at hand are too many.
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
    index: u32,
    generation: u32,
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
}

/// A dead letter to publish.
#[derive(Debug)]
pub(crate) struct Burial {
    pub(crate) lane: LaneId,
    pub(crate) delivery: Delivery,
    pub(crate) attempts: u32,
    pub(crate) death: Death,
}

/// A message to publish to the parking topic, in place of the one with this token.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) lane: LaneId,
    pub(crate) token: AckToken,
    pub(crate) message: Message,
}

/// A marker to publish to the parking topic: everything parked before it is known when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) partition: Partition,
    /// The term of ownership that it belongs to.
    pub(crate) term: u64,
}

#[derive(Debug)]
pub(crate) struct Core {
    settings: Settings,
    lanes: Vec<Lane>,
    free: Vec<u32>,
    index: HashMap<(u32, Bytes), u32>,
    partitions: BTreeMap<u32, Owned>,
    ready: VecDeque<LaneId>,
    timers: BinaryHeap<Reverse<(Duration, LaneId)>>,
    early: BinaryHeap<Reverse<Early>>,
    arrivals: u64,
    settle: Vec<AckToken>,
    settle_late: Vec<AckToken>,
    burials: VecDeque<Burial>,
    markers: Vec<Marker>,
    released: Vec<Partition>,
    moves: Moves,
    running: usize,
    burying: usize,
    draining: bool,
    random: u64,
}

/// A message that came before it was due. Those of one moment keep the order in which they came.
#[derive(Debug)]
struct Early {
    due: Timestamp,
    number: u64,
    entry: Entry,
}

impl Core {
    pub(crate) fn new(settings: Settings) -> Self {
        let random = settings.seed | 1;
        Self {
            settings,
            lanes: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            early: BinaryHeap::new(),
            arrivals: 0,
            settle: Vec::new(),
            settle_late: Vec::new(),
            burials: VecDeque::new(),
            markers: Vec::new(),
            released: Vec::new(),
            moves: Moves::default(),
            running: 0,
            burying: 0,
            draining: false,
            random,
        }
    }

    /// A message came.
    pub(crate) fn deliver(&mut self, delivery: Delivery, now: Now) {
        let partition = delivery.partition.0;
        if self.settings.assigned && !self.partitions.contains_key(&partition) {
            tracing::warn!(partition, "a message of a partition that is not ours was ignored");
            return;
        }
        self.partition(partition, now);
        if !self.takes_up(partition) {
            // It goes to the successor, as if it had never come.
            return;
        }
        let entry = match self.unpack(delivery, now) {
            Some(entry) => entry,
            None => return,
        };
        match entry.delivery.message.not_before {
            Some(due) if due > now.wall => {
                self.arrivals += 1;
                self.early.push(Reverse(Early { due, number: self.arrivals, entry }));
            }
            _ => self.enqueue(entry, now),
        }
    }

    /// Time has passed: wakes what waited for it.
    pub(crate) fn tick(&mut self, now: Now) {
        while let Some(Reverse((at, _))) = self.timers.peek()
            && *at <= now.steady
        {
            let Some(Reverse((_, lane))) = self.timers.pop() else { break };
            if let Some(found) = self.find(lane) {
                found.timer = Duration::ZERO;
                self.schedule(lane.index, now);
            }
        }
        while self.early.peek().is_some_and(|Reverse(early)| early.due <= now.wall) {
            let Some(Reverse(early)) = self.early.pop() else { break };
            self.enqueue(early.entry, now);
        }
        self.remind_markers(now);
        self.sweep(now);
    }

    /// How long nothing has to be done if nothing happens.
    pub(crate) fn idle_for(&self, now: Now) -> Option<Duration> {
        let timer = self.timers.peek().map(|Reverse((at, _))| at.saturating_sub(now.steady));
        let early = self.early.peek().map(|Reverse(early)| early.due.since(now.wall));
        [timer, early, self.next_marker(now), self.next_sweep(now)].into_iter().flatten().min()
    }

    /// Whether a message came too early and is held back.
    pub(crate) fn holds_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// A batch to run now, if there is one and room for it.
    pub(crate) fn start(&mut self) -> Option<Start> {
        while !self.draining && self.running < self.settings.concurrency {
            let id = self.ready.pop_front()?;
            let batch = self.settings.batch;
            let Some(lane) = self.find(id).filter(|lane| lane.state == LaneState::Queued) else { continue };
            lane.state = LaneState::Idle;
            let partition = lane.partition;
            if !self.is_open(partition) {
                continue;
            }
            let lane = &mut self.lanes[id.index as usize];
            if lane.moving > 0 || lane.front().is_none() {
                continue;
            }
            lane.take(batch);
            let Some(current) = &lane.current else { continue };
            lane.state = LaneState::Running;
            let attempt = current.attempts + 1;
            let batch = match &lane.more[..] {
                [] => Batch::one(current.delivery.clone(), attempt),
                more => {
                    let all = std::iter::once(current).chain(more);
                    Batch::many(all.map(|entry| entry.delivery.clone()).collect(), attempt)
                }
            };
            self.running += 1;
            self.busy(partition);
            return Some(Start { lane: id, batch });
        }
        None
    }

    /// Tokens to settle, in no order.
    pub(crate) fn settlements(&mut self) -> &mut Vec<AckToken> {
        &mut self.settle
    }

    /// Tokens to settle when all other settlements so far are flushed.
    pub(crate) fn late_settlements(&mut self) -> Vec<AckToken> {
        std::mem::take(&mut self.settle_late)
    }

    /// A dead letter to publish.
    pub(crate) fn burial(&mut self) -> Option<Burial> {
        self.burials.pop_front()
    }

    /// Markers to publish.
    pub(crate) fn markers(&mut self) -> Vec<Marker> {
        std::mem::take(&mut self.markers)
    }

    /// Messages to park, all at once and in this order.
    pub(crate) fn moves(&mut self) -> Vec<Move> {
        self.moves.take()
    }

    /// Partitions of which nothing is under way any more: to be released.
    pub(crate) fn released(&mut self) -> Vec<Partition> {
        std::mem::take(&mut self.released)
    }

    /// Begins nothing new from now on.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.running == 0 && self.burying == 0 && self.moves.under_way == 0
    }

    /// How many batches are with the handler.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    fn random(&mut self) -> f64 {
        // Marsaglia's xorshift64; jitter needs no more.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Early {
    fn order(&self) -> (Timestamp, u64) {
        (self.due, self.number)
    }
}

impl PartialEq for Early {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Early {}

impl PartialOrd for Early {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Early {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
