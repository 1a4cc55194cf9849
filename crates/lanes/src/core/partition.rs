use std::cmp::Reverse;

use partitura_broker::Partition;

use super::markers::Markers;
use super::{Core, LaneState, Marker, Now};

/// A partition that is ours.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) state: PartitionState,
    /// Distinguishes this term of ownership from all others, of all owners.
    pub(super) term: u64,
    /// How many lanes and moves of it are under way.
    pub(super) busy: usize,
    pub(super) markers: Markers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartitionState {
    /// What is parked is not known yet: the marker of this term is awaited.
    Learning,
    /// Lanes run.
    Open,
    /// Lanes finish.
    Revoking,
}

impl Core {
    /// Partitions are ours from now on.
    pub(crate) fn assigned(&mut self, partition: Partition, now: Now) {
        // A new term: what was kept of an older one means nothing.
        if self.partitions.contains_key(&partition.0) {
            self.lost(partition, now);
        }
        self.partition(partition.0, now);
    }

    /// Nothing of it may be begun any more; it is released when what runs has finished.
    pub(crate) fn revoking(&mut self, partition: Partition) {
        if let Some(owned) = self.partitions.get_mut(&partition.0) {
            owned.state = PartitionState::Revoking;
            self.release_if_quiet(partition.0);
        } else {
            // Of a partition that we never heard of nothing is under way.
            self.released.push(partition);
        }
    }

    /// It is gone: forgets all of it.
    pub(crate) fn lost(&mut self, partition: Partition, now: Now) {
        self.partitions.remove(&partition.0);
        self.early.retain(|Reverse(early)| early.entry.delivery.partition != partition);
        let of = |lane: &super::Lane| lane.partition == partition.0;
        for index in 0..self.lanes.len() {
            if !of(&self.lanes[index]) || self.lanes[index].is_over() {
                continue;
            }
            let entries = {
                let lane = &mut self.lanes[index];
                lane.stale |= lane.is_busy();
                if lane.state == LaneState::Queued {
                    lane.state = LaneState::Idle;
                }
                lane.parked.clear();
                lane.death = None;
                lane.singly = 0;
                let (hand, main) = (std::mem::take(&mut lane.hand), std::mem::take(&mut lane.main));
                let more = std::mem::take(&mut lane.more);
                lane.current.take().into_iter().chain(more).chain(hand).chain(main).collect::<Vec<_>>()
            };
            entries.iter().for_each(|entry| self.left_hand(entry));
            self.tidy(index as u32, now);
        }
    }

    pub(super) fn partition(&mut self, partition: u32, now: Now) {
        if self.partitions.contains_key(&partition) {
            return;
        }
        let learn = self.settings.ordered && self.settings.parking.is_some();
        let term = self.new_term(now);
        let mut state = PartitionState::Open;
        if learn {
            state = PartitionState::Learning;
            self.markers.push(Marker { partition: Partition(partition), term });
        }
        self.partitions.insert(partition, Owned { state, term, busy: 0, markers: Markers::default() });
    }

    pub(super) fn is_open(&self, partition: u32) -> bool {
        self.partitions.get(&partition).is_some_and(|owned| owned.state == PartitionState::Open)
    }

    /// The number of the current term; 0 if the partition is not ours.
    pub(super) fn term(&self, partition: u32) -> u64 {
        self.partitions.get(&partition).map_or(0, |owned| owned.term)
    }

    /// All partitions that are ours.
    pub(crate) fn owned(&self) -> Vec<Partition> {
        self.partitions.keys().copied().map(Partition).collect()
    }

    pub(super) fn is_ours(&self, partition: u32) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// Whether messages of it are taken in.
    pub(super) fn takes_up(&self, partition: u32) -> bool {
        self.partitions.get(&partition).is_some_and(|owned| owned.state != PartitionState::Revoking)
    }

    pub(super) fn is_learning(&self, partition: u32) -> bool {
        let learning = |owned: &Owned| owned.state == PartitionState::Learning;
        self.partitions.get(&partition).is_some_and(learning)
    }

    pub(super) fn is_learning_any(&self) -> bool {
        self.partitions.values().any(|owned| owned.state == PartitionState::Learning)
    }

    pub(super) fn busy(&mut self, partition: u32) {
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.busy += 1;
        }
    }

    pub(super) fn no_longer_busy(&mut self, partition: u32) {
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.busy = owned.busy.saturating_sub(1);
            self.release_if_quiet(partition);
        }
    }

    fn release_if_quiet(&mut self, partition: u32) {
        let quiet = |owned: &Owned| owned.state == PartitionState::Revoking && owned.busy == 0;
        if self.partitions.get(&partition).is_some_and(quiet) {
            // What was prefetched goes to the successor, as if it had never come.
            self.lost(Partition(partition), Now::default());
            self.released.push(Partition(partition));
        }
    }
}
