//! A partition to which due messages are forwarded.

use std::collections::BTreeMap;
use std::time::Duration;

use partitura_adapter_kit::{Backoff, Claimed, Pace};
use partitura_broker::{Error, Partition, Timestamp, TopicName, telemetry};
use tokio::time::Instant;

use crate::claim::{Handle, Position};

/// The pause after a refusal.
const AGAIN: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(30) };
/// A destination that has not answered for this long is taken for one that refuses.
const SLOW: Duration = Duration::from_secs(2);

/// The place of a timer in the order of forwarding. Of two at the same moment, the one that was written first precedes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The moment at which to do something about it.
    pub(super) at: Timestamp,
    pub(super) position: Position,
}

/// A delayed message.
#[derive(Debug)]
pub(super) struct Timer {
    pub(super) place: Place,
    pub(super) claimed: Claimed<Handle>,
}

/// Timers in the order of forwarding.
pub(super) type Timers = BTreeMap<Place, Claimed<Handle>>;

/// A partition, and the timers that are due in it.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) waiting: Timers,
    pace: Pace,
}

impl Default for Destination {
    fn default() -> Self {
        Self { waiting: Timers::new(), pace: Pace::new(AGAIN) }
    }
}

impl Destination {
    /// Takes the timers to publish next, at most this number: none while others are unconfirmed, or during a pause.
    pub(super) fn take(&mut self, most: usize) -> Vec<Timer> {
        if self.waiting.is_empty() || !self.pace.is_ready() {
            return Vec::new();
        }
        // One message finds out whether others are accepted again.
        let most = if self.pace.is_failing() { 1 } else { most };
        self.pace.begin();
        let first = || self.waiting.pop_first().map(|(place, claimed)| Timer { place, claimed });
        std::iter::from_fn(first).take(most).collect()
    }

    /// Takes note of the outcome of a batch. Logs the first failure, and its end.
    pub(super) fn finished(&mut self, failure: Option<&Error>, topic: &TopicName, partition: Partition) {
        match failure {
            None => {
                if self.pace.succeeded() {
                    tracing::info!(target: telemetry::TARGET, %topic, %partition, "delayed messages are forwarded again");
                }
            }
            Some(error) => {
                if !self.pace.is_failing() {
                    tracing::warn!(target: telemetry::TARGET, %topic, %partition, %error,
                        "delayed messages cannot be forwarded; they are kept and tried again");
                }
                self.pace.failed(u64::MAX);
            }
        }
    }

    /// Whether nothing is accepted at the moment.
    pub(super) fn is_stuck(&self) -> bool {
        self.pace.is_failing() || self.pace.busy_for().is_some_and(|time| time > SLOW)
    }

    /// Takes the timers that are more than `most`, the last first. They must not take the place of timers for others.
    pub(super) fn surplus(&mut self, most: usize) -> Vec<Timer> {
        let surplus = self.waiting.len().saturating_sub(most);
        let last = || self.waiting.pop_last().map(|(place, claimed)| Timer { place, claimed });
        std::iter::from_fn(last).take(surplus).collect()
    }

    /// The time until it is to be tried again, if that is known.
    pub(super) fn retry_in(&self) -> Option<Duration> {
        let ready_at = self.pace.ready_at().filter(|_| !self.waiting.is_empty());
        ready_at.map(|at| at.saturating_duration_since(Instant::now()))
    }
}
