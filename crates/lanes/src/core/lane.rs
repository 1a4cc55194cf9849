use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::Delivery;

use super::model::{Death, Now};
use super::ranges::Ranges;
use super::suspicion::Suspicion;
use crate::Batch;

/// The messages of one key, in the order in which they are run: `current`, then the parked ones, then `main`.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Distinguishes this lane from those that had its index before.
    pub(super) generation: u32,
    pub(super) partition: u32,
    /// `None`: of a message without a key, which is alone in its lane.
    pub(super) key: Option<Bytes>,
    pub(super) state: LaneState,
    /// The partition was lost while something of the lane was under way: its outcome means nothing.
    pub(super) stale: bool,
    /// The message that is being run, or waits for its next run.
    pub(super) current: Option<Entry>,
    /// The messages that are being run together with `current`.
    pub(super) more: Vec<Entry>,
    /// The messages in memory that have a place among the parked, by place; two copies of one place may occur.
    pub(super) hand: VecDeque<Entry>,
    /// The messages that came from the topic itself.
    pub(super) main: VecDeque<Entry>,
    /// The places that are parked and not done, `hand` and `current` included.
    pub(super) parked: Ranges,
    /// How many of `hand` are on their way to the parking topic.
    pub(super) moving: usize,
    /// Its head was put back as a suspect, and its copy has not come yet.
    pub(super) awaits: bool,
    /// Number of messages of `main` that are run one by one, because a batch with them failed.
    pub(super) singly: usize,
    /// When it is woken; zero: never.
    pub(super) timer: Duration,
    /// It waits to be used again.
    pub(super) is_free: bool,
    /// `current` is to become a dead letter.
    pub(super) death: Option<Death>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneState {
    /// Nothing can be done now.
    #[default]
    Idle,
    /// It is in the queue of those that can run.
    Queued,
    /// With the handler.
    Running,
    /// Its dead letter is being published.
    Burying,
}

/// A message in a lane.
#[derive(Debug)]
pub(super) struct Entry {
    /// As its topic had it: what parking added is taken off.
    pub(super) delivery: Delivery,
    /// When it came.
    pub(super) since: Duration,
    /// Failed runs.
    pub(super) attempts: u32,
    /// Not run before this moment.
    pub(super) not_before: Duration,
    /// Its place among the parked of its key; `None`: it was never parked.
    pub(super) place: Option<u64>,
    /// This copy came from the parking topic.
    pub(super) from_parking: bool,
    /// This copy is on its way to the parking topic.
    pub(super) moving: bool,
    /// Whether it may have ended a process.
    pub(super) suspicion: Suspicion,
}

impl Entry {
    /// Whether it was held for the whole bound, and is not being parked.
    pub(super) fn is_held(&self, hold: Duration, now: Now) -> bool {
        now.steady.saturating_sub(self.since) >= hold && !self.moving
    }
}

impl Lane {
    /// The number of its messages that are in memory.
    pub(super) fn len(&self) -> usize {
        usize::from(self.current.is_some()) + self.more.len() + self.hand.len() + self.main.len()
    }

    /// Whether the lane is of no use any more.
    pub(super) fn is_over(&self) -> bool {
        self.state == LaneState::Idle
            && !self.stale
            && self.current.is_none()
            && self.main.is_empty()
            && self.hand.is_empty()
            && self.parked.is_empty()
    }

    /// Whether the handler, the producer or the parking topic has something of it.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.state, LaneState::Running | LaneState::Burying) || self.moving > 0
    }

    /// Whether its head has failed and waits, or parked messages come first.
    pub(super) fn is_failing(&self) -> bool {
        (!self.parked.is_empty() && !self.awaits) || self.current.as_ref().is_some_and(|current| current.attempts > 0)
    }

    /// The parked message that comes next is not in memory: it is somewhere in the parking topic.
    pub(super) fn is_stuck(&self) -> bool {
        self.state == LaneState::Idle
            && self.current.is_none()
            && self.moving == 0
            && self.parked.first().is_some_and(|first| self.hand.front().is_none_or(|entry| entry.place != Some(first)))
    }

    /// The message that runs next, if it is in memory.
    pub(super) fn front(&self) -> Option<&Entry> {
        if self.current.is_some() {
            return self.current.as_ref();
        }
        match self.parked.first() {
            Some(first) => self.hand.front().filter(|entry| entry.place == Some(first)),
            None => self.main.front(),
        }
    }

    /// Takes the messages that run next, up to `batch`, into `current` and `more`.
    pub(super) fn take(&mut self, batch: usize) {
        if self.current.is_some() {
            return;
        }
        if !self.parked.is_empty() {
            self.current = self.hand.pop_front();
            return;
        }
        self.current = self.main.pop_front();
        if self.singly > 0 {
            self.singly -= 1;
            return;
        }
        let alone = |entry: &Entry| entry.attempts > 0 || !entry.not_before.is_zero() || !entry.suspicion.is_none();
        if batch == 1 || self.current.as_ref().is_none_or(alone) {
            return;
        }
        while self.more.len() + 1 < batch && self.main.front().is_some_and(|entry| !alone(entry)) {
            self.more.extend(self.main.pop_front());
        }
    }

    /// The messages that were taken, for the handler.
    pub(super) fn batch(&self) -> Option<Batch> {
        let current = self.current.as_ref()?;
        // The first crash is not certain: waiting messages are flagged as redelivered as well.
        let crashes = current.suspicion.crashes.saturating_sub(1);
        let attempt = current.attempts.saturating_add(crashes).saturating_add(1);
        if self.more.is_empty() {
            return Some(Batch::one(current.delivery.clone(), attempt));
        }
        let all = std::iter::once(current).chain(&self.more);
        Some(Batch::many(all.map(|entry| entry.delivery.clone()).collect(), attempt))
    }

    /// Puts a batch back, to be run one by one.
    pub(super) fn break_up(&mut self) {
        self.singly = self.more.len() + 1;
        for entry in self.more.drain(..).rev() {
            self.main.push_front(entry);
        }
        if let Some(current) = self.current.take() {
            self.main.push_front(current);
        }
    }

    /// Gives the head a place among the parked. If it has none yet, nothing of its key is parked: see `park`.
    pub(super) fn put_back(&mut self, fresh: u64) {
        let Some(mut current) = self.current.take() else { return };
        self.death = None;
        let place = current.place.unwrap_or_else(|| self.place_behind(fresh));
        current.place = Some(place);
        self.parked.insert(place);
        self.put(current);
    }

    /// Gives the messages from the topic places behind all that are parked.
    pub(super) fn put_behind(&mut self, fresh: u64) {
        while let Some(mut entry) = self.main.pop_front() {
            let place = self.place_behind(fresh);
            entry.place = Some(place);
            self.parked.insert(place);
            self.hand.push_back(entry);
        }
        self.singly = 0;
    }

    /// Puts a parked message where its place is; copies stay in the order in which they came. One with the note that it
    /// begins comes before other copies of the same message.
    pub(super) fn put(&mut self, entry: Entry) {
        let first = entry.suspicion.noted;
        let is_before = |other: &Entry| other.place < entry.place || (other.place == entry.place && !first);
        let at = self.hand.partition_point(is_before);
        self.hand.insert(at, entry);
    }

    /// Takes out of memory the copies of messages that are done.
    pub(super) fn take_copies(&mut self) -> Vec<Entry> {
        if self.hand.is_empty() {
            return Vec::new();
        }
        let current = self.current.as_ref().and_then(|current| current.place);
        let is_copy = |entry: &Entry| {
            let place = entry.place.unwrap_or_default();
            !entry.moving && !self.parked.contains(place) && current != Some(place)
        };
        if !self.hand.iter().any(is_copy) {
            return Vec::new();
        }
        let (copies, hand): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.hand).into_iter().partition(is_copy);
        self.hand = hand;
        copies.into()
    }

    /// Gives away all messages, since the partition is lost.
    pub(super) fn forget(&mut self) -> Vec<Entry> {
        self.stale |= self.is_busy();
        if self.state == LaneState::Queued {
            self.state = LaneState::Idle;
        }
        self.parked.clear();
        self.awaits = false;
        self.death = None;
        self.singly = 0;
        let current = self.current.take().into_iter().chain(self.more.drain(..));
        current.chain(self.hand.drain(..)).chain(self.main.drain(..)).collect()
    }

    /// Makes a lane that is over fit for another key. It keeps its buffers, unless they have become large.
    pub(super) fn clear(&mut self) {
        const KEEP: usize = 8;
        self.main.shrink_to(KEEP);
        self.hand.shrink_to(KEEP);
        self.generation = self.generation.wrapping_add(1);
        self.singly = 0;
        self.awaits = false;
        self.timer = Duration::ZERO;
        self.is_free = true;
    }

    /// The first place that is behind all that are parked, and not before `fresh`.
    fn place_behind(&self, fresh: u64) -> u64 {
        self.parked.last().map_or(fresh, |last| fresh.max(last.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_entry_is_small_enough_to_move_around() {
        assert!(size_of::<super::Entry>() <= 256, "{}", size_of::<super::Entry>());
    }
}
