use std::time::Duration;

use partitura_workflow::Limit;
use tokio::time::Instant;

/// A timer is up to so late: a rate may make up for that.
const SLACK: Duration = Duration::from_millis(10);
/// The first guess of the time between two tasks that begin, where nothing was seen.
const GUESS: Duration = Duration::from_millis(10);
/// For how long a task goes back to the broker, at least and at most.
const BACK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));

/// The use of one limit, of one key.
#[derive(Debug)]
pub(super) struct Meter {
    running: u32,
    /// When the next task would begin if they began evenly, by the rate.
    even: Instant,
    begun: Instant,
    /// The time between two tasks that began, while others waited.
    interval: Duration,
    /// When the last of those is expected back that went to the broker.
    back: Instant,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self { running: 0, even: now, begun: now, interval: GUESS, back: now }
    }

    pub(super) fn has_room(&self, limit: &Limit, now: Instant) -> bool {
        self.is_below(limit) && self.due(limit) <= now
    }

    /// Whether fewer run than may.
    pub(super) fn is_below(&self, limit: &Limit) -> bool {
        limit.at_most.is_none_or(|most| self.running < most)
    }

    /// When the rate lets the next task begin.
    pub(super) fn due(&self, limit: &Limit) -> Instant {
        let slack = limit.per_second.map_or(Duration::ZERO, |rate| SLACK.saturating_sub(interval(rate)));
        self.even.checked_sub(slack).unwrap_or(self.even)
    }

    /// A task begins. `contended`: others wait.
    pub(super) fn take(&mut self, limit: &Limit, contended: bool, now: Instant) {
        self.running = self.running.saturating_add(1);
        if let Some(rate) = limit.per_second {
            self.even = self.even.max(now) + interval(rate);
        }
        if contended {
            self.interval = (self.interval * 7 + now.saturating_duration_since(self.begun)) / 8;
        }
        self.begun = now;
    }

    pub(super) fn release(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Whether it is as good as a new one.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.running == 0 && self.even <= now && self.back <= now
    }

    /// The time until a task begins behind `ahead` others.
    pub(super) fn wait(&self, limit: &Limit, ahead: usize, now: Instant) -> Duration {
        let between = match limit.per_second {
            Some(rate) => interval(rate).max(self.interval),
            None => self.interval.max(now.saturating_duration_since(self.begun)),
        };
        between.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1)).min(BACK.1)
    }

    /// For how long a task goes back to the broker behind `ahead` that wait here: they come back as fast as they can
    /// run.
    pub(super) fn send_back(&mut self, limit: &Limit, ahead: usize, now: Instant) -> Duration {
        let next = self.back.max(now + self.wait(limit, ahead, now)) + self.wait(limit, 0, now);
        self.back = next.min(now + BACK.1);
        self.back.saturating_duration_since(now).max(BACK.0)
    }
}

fn interval(rate: f64) -> Duration {
    Duration::try_from_secs_f64(rate.recip()).unwrap_or(BACK.1)
}
