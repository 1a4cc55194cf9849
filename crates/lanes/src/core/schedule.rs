use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::model::LaneId;

/// The lanes that can run, and those that wait for a moment. A lane that does not exist any more may still be listed.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    ready: VecDeque<LaneId>,
    timers: BinaryHeap<Reverse<Timer>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    at: Duration,
    lane: LaneId,
}

impl Schedule {
    pub(super) fn queue(&mut self, lane: LaneId) {
        self.ready.push_back(lane);
    }

    /// Queues a lane in front of all others.
    pub(super) fn queue_first(&mut self, lane: LaneId) {
        self.ready.push_front(lane);
    }

    pub(super) fn next_ready(&mut self) -> Option<LaneId> {
        self.ready.pop_front()
    }

    pub(super) fn wake_at(&mut self, at: Duration, lane: LaneId) {
        self.timers.push(Reverse(Timer { at, lane }));
    }

    /// The moment of the next timer.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        self.timers.peek().map(|Reverse(timer)| timer.at)
    }

    /// Takes the next lane whose timer has come.
    pub(super) fn pop_due(&mut self, steady: Duration) -> Option<LaneId> {
        self.next_timer().filter(|at| *at <= steady)?;
        self.timers.pop().map(|Reverse(timer)| timer.lane)
    }
}
