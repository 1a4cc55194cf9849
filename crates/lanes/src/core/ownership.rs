//! Partitions that come and go, and their markers.

use partitura_broker::{AckToken, Partition};

use super::lane::Entry;
use super::markers::KeptMarker;
use super::model::{Marker, Now};
use super::partitions::{Owned, PartitionState};
use super::state::Core;

/// The pause before a marker is published again that was not confirmed.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

impl Core {
    /// The partition is ours from now on.
    pub(crate) fn assigned(&mut self, partition: Partition, now: Now) {
        // A new term: messages of an older one mean nothing.
        if self.partitions.contains(partition.0) {
            self.lost(partition, now);
        }
        self.begin_term(partition.0, now);
    }

    /// Nothing of it may be begun any more; it is released when all running work has finished.
    pub(crate) fn revoking(&mut self, partition: Partition) {
        if let Some(owned) = self.partitions.get_mut(partition) {
            owned.revoke();
            self.release_if_quiet(partition.0);
        } else {
            // Of a partition that we never heard of nothing is under way.
            self.actions.released.push(partition);
        }
    }

    /// It is gone: forgets all of it.
    pub(crate) fn lost(&mut self, partition: Partition, now: Now) {
        self.partitions.remove(partition);
        self.early.forget(partition);
        for index in self.lanes.indices() {
            let lane = &mut self.lanes[index];
            if lane.partition != partition.0 || lane.is_over() {
                continue;
            }
            let entries: Vec<Entry> = lane.forget();
            entries.iter().for_each(|entry| self.left_memory(entry));
            self.tidy(index, now);
        }
    }

    /// The marker is in the topic.
    pub(crate) fn marker_confirmed(&mut self, marker: Marker) {
        if let Some(owned) = self.partitions.of_marker(marker) {
            owned.markers.confirm();
        }
    }

    /// The marker was not confirmed: it is published again after a while.
    pub(crate) fn marker_failed(&mut self, marker: Marker, now: Now) {
        if let Some(owned) = self.partitions.of_marker(marker) {
            owned.markers.publish_at(Some(now.steady + PAUSE));
        }
    }

    /// A marker came back. If it is ours, all parked messages of the partition are known.
    pub(super) fn marker_returned(&mut self, term: u64, token: AckToken, now: Now) {
        let Some(owned) = self.partitions.get_mut(token.partition) else { return };
        let (is_ours, is_learning) = (owned.term() == term, owned.is_learning());
        if !is_ours && !is_learning {
            self.actions.settle.push(token);
            return;
        }
        self.actions.settle_late.extend(owned.markers.keep(KeptMarker { term, token }, is_ours));
        if !is_ours {
            return;
        }
        // Like everything else, it is not held for longer than the bound.
        let hold = self.settings.parking.as_ref().map(|parking| parking.hold);
        owned.markers.publish_at(hold.and_then(|hold| now.steady.checked_add(hold)));
        if is_learning {
            owned.open();
            for index in self.lanes.indices() {
                if self.lanes[index].partition == token.partition.0 {
                    self.schedule(index, now);
                }
            }
        }
    }

    /// Begins a term of ownership, unless one has begun.
    pub(super) fn begin_term(&mut self, partition: u32, now: Now) {
        if self.partitions.contains(partition) {
            return;
        }
        let learn = self.settings.ordered && self.settings.parking.is_some();
        let term = self.random.term(now);
        let mut state = PartitionState::Open;
        if learn {
            state = PartitionState::Learning;
            self.actions.markers.push(Marker { partition: Partition(partition), term });
        }
        self.partitions.insert(partition, state, term);
    }

    /// Something of the partition is under way: it is not released before that has [ended](Self::end_work).
    pub(super) fn begin_work(&mut self, partition: u32) {
        if let Some(owned) = self.partitions.get_mut(Partition(partition)) {
            owned.begin();
        }
    }

    pub(super) fn end_work(&mut self, partition: u32) {
        self.partitions.get_mut(Partition(partition)).map(Owned::end);
        self.release_if_quiet(partition);
    }

    fn release_if_quiet(&mut self, partition: u32) {
        if self.partitions.is_releasable(partition) {
            // Prefetched messages go to the successor, as if they had never come.
            self.lost(Partition(partition), Now::default());
            self.actions.released.push(Partition(partition));
        }
    }
}
