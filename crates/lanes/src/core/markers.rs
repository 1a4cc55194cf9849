//! Markers in the parking topic: how an owner learns which messages are parked, and which former owners wrote too late.
//!
//! At the beginning of its term an owner publishes a marker to the partition. When it comes back, everything that was
//! parked before is in memory, or known. The marker is kept, unsettled, for the whole term: a message that an earlier
//! owner writes behind it came too late. That owner could not settle the message at its old place any more, from where
//! it comes again; so the late copy is void. A successor sees the marker too, and judges alike. An older marker is
//! settled when a newer one has come back, and not before the void messages between them are settled for good.

use std::time::Duration;

use partitura_broker::AckToken;

/// Number of markers of other owners that are kept while a partition is learned. More are left by owners that crashed
/// while they learned, one after another.
const KEPT: usize = 4;

/// The markers of a partition.
#[derive(Debug, Default)]
pub(super) struct Markers {
    /// The markers that came back, in the order of the topic.
    kept: Vec<KeptMarker>,
    /// Ours is in the topic, and what we park comes behind it.
    confirmed: bool,
    /// When the next one is to be published.
    due: Option<Duration>,
}

/// A marker that came back and is not settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptMarker {
    pub(super) term: u64,
    pub(super) token: AckToken,
}

impl Markers {
    /// Whether messages that this term wrote are void, if they come now.
    pub(super) fn voids(&self, term: u64) -> bool {
        !self.kept.is_empty() && self.kept.iter().all(|kept| kept.term != term)
    }

    pub(super) fn confirm(&mut self) {
        self.confirmed = true;
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Keeps a marker, and gives the tokens of those that it replaces. Ours replaces all.
    pub(super) fn keep(&mut self, marker: KeptMarker, is_ours: bool) -> impl Iterator<Item = AckToken> {
        let over = if is_ours { self.kept.len() } else { self.kept.len().saturating_sub(KEPT - 1) };
        let replaced = self.kept.drain(..over).map(|kept| kept.token).collect::<Vec<_>>();
        self.kept.push(marker);
        replaced.into_iter()
    }

    /// Sets when the next marker is to be published.
    pub(super) fn publish_at(&mut self, due: Option<Duration>) {
        self.due = due;
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Whether a marker is to be published now. It is due only once.
    pub(super) fn take_due(&mut self, steady: Duration) -> bool {
        self.due.take_if(|due| *due <= steady).is_some()
    }
}
