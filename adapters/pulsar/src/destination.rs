//! A partition that due messages are forwarded to.

use std::collections::BTreeMap;
use std::time::Duration;

use partitura_adapter_kit::{Backoff, Claimed, Pace};
use partitura_broker::{Error, Partition, Timestamp, TopicName, telemetry};
use tokio::time::Instant;

use crate::settlement::{Handle, Position};

/// How long a destination that refuses is left alone.
const AGAIN: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(30) };
/// A destination that has not answered for so long is taken for one that refuses.
const SLOW: Duration = Duration::from_secs(2);

/// When something is to be done, and of two at the same moment the one that was written first.
pub(crate) type Place = (Timestamp, Position);
/// Timers in the order in which they are forwarded.
pub(crate) type Timers = BTreeMap<Place, Claimed<Handle>>;

/// One of them.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) waiting: Timers,
    pace: Pace,
}

impl Default for Destination {
    fn default() -> Self {
        Self { waiting: Timers::new(), pace: Pace::new(AGAIN) }
    }
}

impl Destination {
    /// What to publish next: nothing while something is on its way, or while it is left alone.
    pub(crate) fn take(&mut self, most: usize) -> Vec<(Place, Claimed<Handle>)> {
        if self.waiting.is_empty() || !self.pace.is_ready() {
            return Vec::new();
        }
        // One message tells whether it takes any again.
        let most = if self.pace.is_failing() { 1 } else { most };
        self.pace.begin();
        std::iter::from_fn(|| self.waiting.pop_first()).take(most).collect()
    }

    /// Takes note of what came of a batch. A failure is told once, until it is over.
    pub(crate) fn finished(&mut self, failure: Option<&Error>, topic: &TopicName, partition: Partition) {
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

    /// Whether nothing gets through at the moment.
    pub(crate) fn is_stuck(&self) -> bool {
        self.pace.is_failing() || self.pace.busy_for().is_some_and(|time| time > SLOW)
    }

    /// What it has too much of, the last first: it must not take the place of timers for others.
    pub(crate) fn surplus(&mut self, most: usize) -> Vec<(Place, Claimed<Handle>)> {
        let surplus = self.waiting.len().saturating_sub(most);
        std::iter::from_fn(|| self.waiting.pop_last()).take(surplus).collect()
    }

    /// How soon to look at it again, if that is known.
    pub(crate) fn retry_in(&self) -> Option<Duration> {
        let ready_at = self.pace.ready_at().filter(|_| !self.waiting.is_empty());
        ready_at.map(|at| at.saturating_duration_since(Instant::now()))
    }
}
