//! The metrics of lanes. Without the feature `metrics` there are none: a meter is empty, and what it is told costs
//! nothing.
#![cfg_attr(not(feature = "metrics"), allow(dead_code, unused_variables))]

#[cfg(feature = "metrics")]
use std::sync::Arc;
#[cfg(feature = "metrics")]
use std::time::Instant;

use partitura_broker::TopicName;

use crate::Outcome;

/// Measures the lanes of one topic.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    #[cfg(feature = "metrics")]
    destination: Arc<str>,
}

/// The messages that lanes have in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Received and not done.
    pub(crate) backlog: usize,
    /// Of these, the ones that came from the parking topic.
    pub(crate) parked: usize,
}

/// The run of a batch that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    #[cfg(feature = "metrics")]
    since: Instant,
}

impl Meter {
    pub(crate) fn new(topic: &TopicName) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            destination: topic.as_str().into(),
        }
    }

    /// Messages came.
    pub(crate) fn consumed(&self, messages: usize) {
        #[cfg(feature = "metrics")]
        metrics::counter!(
            "messaging_client_consumed_messages_total",
            "messaging_destination_name" => self.destination.clone()
        )
        .increment(messages as u64);
    }

    /// A handler begins.
    pub(crate) fn begin(&self) -> Run {
        Run {
            #[cfg(feature = "metrics")]
            since: Instant::now(),
        }
    }

    /// A handler has ended.
    pub(crate) fn ended(&self, run: Run, outcome: &Outcome) {
        #[cfg(feature = "metrics")]
        metrics::histogram!(
            "messaging_process_duration_seconds",
            "messaging_destination_name" => self.destination.clone(),
            "outcome" => word(outcome)
        )
        .record(run.since.elapsed().as_secs_f64());
    }

    /// A dead letter was confirmed. `tried`: it had no attempt left; otherwise the handler gave it up.
    pub(crate) fn buried(&self, tried: bool) {
        #[cfg(feature = "metrics")]
        metrics::counter!(
            "partitura_dead_letters_total",
            "messaging_destination_name" => self.destination.clone(),
            "reason" => if tried { "attempts" } else { "refused" }
        )
        .increment(1);
    }

    /// Tells how many partitions are ours.
    pub(crate) fn owns(&self, partitions: usize) {
        #[cfg(feature = "metrics")]
        metrics::gauge!("partitura_owned_partitions", "messaging_destination_name" => self.destination.clone())
            .set(partitions as f64);
    }

    /// Tells how much is in memory.
    pub(crate) fn holds(&self, held: Held) {
        #[cfg(feature = "metrics")]
        for (name, messages) in [("partitura_lane_backlog", held.backlog), ("partitura_lane_parked", held.parked)] {
            metrics::gauge!(name, "messaging_destination_name" => self.destination.clone()).set(messages as f64);
        }
    }
}

/// The outcome as a label.
#[cfg(feature = "metrics")]
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done | Outcome::Settled => "done",
        Outcome::Retry { .. } => "retry",
        Outcome::Dead { .. } => "dead",
        Outcome::Lost => "lost",
    }
}
