//! How long a history may become.

use partitura_workflow::{Stop, StopReason};

use crate::wire::names::InstanceKey;
use crate::workflow::instance::Notes;

/// How long the history of a run may become. Each replay reads all of it, and [continuing as
/// new](partitura_workflow::Cx::continue_as_new) begins an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryLimits {
    /// A longer one is warned about, once. 10,000 events unless set.
    pub warn_events: usize,
    /// A larger one is warned about, once. 10 MB unless set.
    pub warn_bytes: usize,
    /// An instance with more events stops. 1,000,000 unless set.
    pub most_events: usize,
    /// An instance with a larger history stops. 1 GB unless set.
    pub most_bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { warn_events: 10_000, warn_bytes: 10_000_000, most_events: 1_000_000, most_bytes: 1_000_000_000 }
    }
}

impl HistoryLimits {
    /// Warns if the last `new` events have made the history long.
    pub(crate) fn warn(&self, key: &InstanceKey, notes: &Notes, grown: (usize, usize)) {
        let was_long = notes.events - grown.0 > self.warn_events || notes.bytes - grown.1 > self.warn_bytes;
        let is_long = notes.events > self.warn_events || notes.bytes > self.warn_bytes;
        if is_long && !was_long {
            tracing::warn!(
                instance = %key,
                events = notes.events,
                bytes = notes.bytes,
                "the history gets long, and each replay reads all of it; continue as new (cx.continue_as_new)"
            );
        }
    }

    /// # Errors
    /// The history is longer than it may be.
    pub(crate) fn check(&self, key: &InstanceKey, notes: &Notes) -> Result<(), Stop> {
        let Notes { events, bytes, .. } = notes;
        if *events <= self.most_events && *bytes <= self.most_bytes {
            return Ok(());
        }
        let reason = StopReason::HistoryTooLong { events: *events, bytes: *bytes };
        Err(Stop { workflow: key.workflow.to_string(), id: key.id.to_string(), reason })
    }
}
