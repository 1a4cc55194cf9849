//! Markers in the parking topic: how an owner learns what is parked, and what former owners wrote too late.
//!
//! At the beginning of its term an owner publishes a marker to the partition. When it comes back, everything that was
//! parked before is at hand, or known. The marker is kept, unsettled, for the whole term: whatever an earlier owner
//! writes behind it came too late. That owner could not settle it at its old place any more, from where it comes again;
//! so the late copy is void. A successor sees the marker too, and judges alike. An older marker is settled when a newer
//! one has come back, and not before what was void between them is settled for good.

use std::time::Duration;

use partitura_broker::{AckToken, Partition};

use super::partition::PartitionState;
use super::{Core, Marker, Now};

/// How many markers of others are kept while a partition is learned. More are left by owners that crashed while they
/// learned, one after another.
const KEPT: usize = 4;

/// The markers of a partition.
#[derive(Debug, Default)]
pub(super) struct Markers {
    /// Those at hand, with their terms, in the order of the topic.
    kept: Vec<(u64, AckToken)>,
    /// Ours is in the topic, and what we park comes behind it.
    pub(super) confirmed: bool,
    /// When the next one is to be published.
    due: Option<Duration>,
}

impl Markers {
    /// Whether what this term wrote is void, if it comes now.
    fn voids(&self, term: u64) -> bool {
        !self.kept.is_empty() && self.kept.iter().all(|(kept, _)| *kept != term)
    }
}

impl Core {
    /// The marker is in the topic.
    pub(crate) fn marker_confirmed(&mut self, marker: Marker) {
        if let Some(owned) = self.partitions.get_mut(&marker.partition.0).filter(|owned| owned.term == marker.term) {
            owned.markers.confirmed = true;
        }
    }

    /// The marker was not confirmed: it is published again after a while.
    pub(crate) fn marker_failed(&mut self, marker: Marker, now: Now) {
        const PAUSE: Duration = Duration::from_millis(500);
        if let Some(owned) = self.partitions.get_mut(&marker.partition.0).filter(|owned| owned.term == marker.term) {
            owned.markers.due = Some(now.steady + PAUSE);
        }
    }

    /// A marker came back. If it is ours, everything parked in the partition is known.
    pub(super) fn marker_returned(&mut self, term: u64, token: AckToken, now: Now) {
        let hold = self.settings.parking.as_ref().map_or(Duration::MAX, |parking| parking.hold);
        let Some(owned) = self.partitions.get_mut(&token.partition.0) else { return };
        let (ours, learning) = (owned.term == term, owned.state == PartitionState::Learning);
        if !ours && !learning {
            self.settle.push(token);
            return;
        }
        let kept = &mut owned.markers.kept;
        let over = if ours { kept.len() } else { kept.len().saturating_sub(KEPT - 1) };
        self.settle_late.extend(kept.drain(..over).map(|(_, token)| token));
        kept.push((term, token));
        if !ours {
            return;
        }
        // Like everything else, it is not held for longer than the bound.
        owned.markers.due = now.steady.checked_add(hold);
        if learning {
            owned.state = PartitionState::Open;
            for index in 0..self.lanes.len() {
                if self.lanes[index].partition == token.partition.0 {
                    self.schedule(index as u32, now);
                }
            }
        }
    }

    /// Whether what this term parked comes too late.
    pub(super) fn is_void(&self, partition: u32, term: u64) -> bool {
        self.partitions.get(&partition).is_some_and(|owned| owned.markers.voids(term))
    }

    pub(super) fn remind_markers(&mut self, now: Now) {
        for (partition, owned) in &mut self.partitions {
            if owned.markers.due.is_some_and(|due| due <= now.steady) && owned.state != PartitionState::Revoking {
                owned.markers.due = None;
                self.markers.push(Marker { partition: Partition(*partition), term: owned.term });
            }
        }
    }

    pub(super) fn next_marker(&self, now: Now) -> Option<Duration> {
        let owned = self.partitions.values().filter(|owned| owned.state != PartitionState::Revoking);
        owned.filter_map(|owned| owned.markers.due).min().map(|due| due.saturating_sub(now.steady))
    }

    /// Whether what is parked in the partition is being learned, and may be parked anew meanwhile.
    pub(super) fn learns_behind_marker(&self, partition: u32) -> bool {
        let confirmed = self.partitions.get(&partition).is_some_and(|owned| owned.markers.confirmed);
        confirmed && self.is_learning(partition)
    }

    pub(super) fn new_term(&mut self, now: Now) -> u64 {
        // Unique over all owners, for all practical purposes.
        let low = (self.random() * f64::from(u32::MAX)) as u64;
        (now.wall.as_millis() << 32) ^ low
    }
}
