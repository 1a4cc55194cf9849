use std::time::Duration;

use super::model::{Now, Parking};

/// How long at least between two rounds of making room, while nothing is stuck.
const PACE: Duration = Duration::from_secs(1);

/// The parked messages that are in memory, the places that were given, and when messages are parked next.
#[derive(Debug, Default)]
pub(super) struct ParkedMessages {
    messages: usize,
    bytes: usize,
    /// The highest place that was given.
    last_place: u64,
    next_sweep: Duration,
    next_round: Duration,
}

impl ParkedMessages {
    /// A message came from the parking topic.
    pub(super) fn came(&mut self, size: usize) {
        self.messages += 1;
        self.bytes += size;
    }

    /// It is no longer in memory.
    pub(super) fn left(&mut self, size: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
    }

    pub(super) fn len(&self) -> usize {
        self.messages
    }

    pub(super) fn is_full(&self, parking: &Parking) -> bool {
        self.messages >= parking.full_messages || self.bytes >= parking.full_bytes
    }

    /// A place that was never given: not by us, and for all practical purposes not by another owner at the same time.
    pub(super) fn fresh_place(&self, term: u64, now: Now) -> u64 {
        const PER_MILLISECOND: u64 = 1_000_000;
        let base = now.wall.as_millis().saturating_mul(PER_MILLISECOND);
        base.saturating_add(term % PER_MILLISECOND).max(self.last_place.saturating_add(1))
    }

    /// All places up to this one were given.
    pub(super) fn gave(&mut self, place: u64) {
        self.last_place = self.last_place.max(place);
    }

    /// Whether it is time to look for messages that are held too long. It is so once in a while.
    pub(super) fn begin_sweep(&mut self, hold: Duration, now: Now) -> bool {
        let is_time = now.steady >= self.next_sweep;
        if is_time {
            self.next_sweep = now.steady + interval(hold);
        }
        is_time
    }

    pub(super) fn next_sweep(&self) -> Duration {
        self.next_sweep
    }

    /// Whether it is time to make room without need.
    pub(super) fn may_make_room(&self, now: Now) -> bool {
        now.steady >= self.next_round
    }

    pub(super) fn begin_round(&mut self, now: Now) {
        self.next_round = now.steady + PACE;
    }

    pub(super) fn next_round(&self) -> Duration {
        self.next_round
    }
}

fn interval(hold: Duration) -> Duration {
    (hold / 8).clamp(Duration::from_millis(5), Duration::from_secs(10))
}
