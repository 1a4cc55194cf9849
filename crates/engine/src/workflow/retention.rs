//! How long instances are kept that have ended.

use std::time::Duration;

use partitura_broker::Timestamp;

/// How long an instance is kept that has ended: its history, its summary and its result. Then it is deleted, and its id
/// is as if it had never been: a copy of an old start or signal that comes even later is new. 30 days unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// For as long as this after its end.
    For(Duration),
    /// Until it is deleted by hand.
    Forever,
}

impl Default for Retention {
    fn default() -> Self {
        Self::For(Duration::from_secs(30 * 24 * 60 * 60))
    }
}

impl From<Duration> for Retention {
    fn from(duration: Duration) -> Self {
        Self::For(duration)
    }
}

impl Retention {
    /// When a run that ended at this time is deleted, in milliseconds. `None`: not by itself.
    pub(crate) fn due(self, ended: u64) -> Option<u64> {
        match self {
            Self::For(duration) => Some((Timestamp::from_millis(ended) + duration).as_millis()),
            Self::Forever => None,
        }
    }
}
