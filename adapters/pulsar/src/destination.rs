//! A partition that due messages are forwarded to.

use std::collections::BTreeMap;
use std::time::Duration;

use partitura_adapter_kit::{Backoff, Claimed};
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
#[derive(Debug, Default)]
pub(crate) struct Destination {
    pub(crate) waiting: Timers,
    /// Since when something is on its way. One batch at a time, so that nothing is overtaken.
    busy: Option<Instant>,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Destination {
    /// What to publish next: nothing while something is on its way, or while it is left alone.
    pub(crate) fn take(&mut self, most: usize) -> Vec<(Place, Claimed<Handle>)> {
        let now = Instant::now();
        if self.busy.is_some() || self.waiting.is_empty() || self.retry_at.is_some_and(|at| at > now) {
            return Vec::new();
        }
        // One message tells whether it takes any again.
        let most = if self.failures > 0 { 1 } else { most };
        let taken: Vec<_> = std::iter::from_fn(|| self.waiting.pop_first()).take(most).collect();
        self.busy = Some(now);
        taken
    }

    /// Takes note of what came of a batch. A failure is told once, until it is over.
    pub(crate) fn finished(&mut self, failure: Option<&Error>, topic: &TopicName, partition: Partition) {
        self.busy = None;
        match failure {
            None => {
                if self.failures > 0 {
                    tracing::info!(target: telemetry::TARGET, %topic, %partition, "delayed messages are forwarded again");
                }
                (self.failures, self.retry_at) = (0, None);
            }
            Some(error) => {
                if self.failures == 0 {
                    tracing::warn!(target: telemetry::TARGET, %topic, %partition, %error,
                        "delayed messages cannot be forwarded; they are kept and tried again");
                }
                self.failures += 1;
                self.retry_at = Some(Instant::now() + AGAIN.delay(self.failures, u64::MAX));
            }
        }
    }

    /// Whether nothing gets through at the moment.
    pub(crate) fn is_stuck(&self) -> bool {
        self.failures > 0 || self.busy.is_some_and(|since| since.elapsed() > SLOW)
    }

    /// What it has too much of, the last first: it must not take the place of timers for others.
    pub(crate) fn surplus(&mut self, most: usize) -> Vec<(Place, Claimed<Handle>)> {
        let surplus = self.waiting.len().saturating_sub(most);
        std::iter::from_fn(|| self.waiting.pop_last()).take(surplus).collect()
    }

    /// How soon to look at it again, if that is known.
    pub(crate) fn retry_in(&self) -> Option<Duration> {
        let waits = self.busy.is_none() && !self.waiting.is_empty();
        self.retry_at.filter(|_| waits).map(|at| at.saturating_duration_since(Instant::now()))
    }
}
