use std::cmp::Reverse;
use std::time::Duration;

use partitura_broker::Partition;

use super::{Core, LaneState, Marker, Now};

/// A partition that is ours.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) state: PartitionState,
    /// How many lanes and moves of it are under way.
    pub(super) busy: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartitionState {
    /// What is parked is not known yet: the marker with this number is awaited, or has to be published anew then.
    Learning { number: u64, again: Option<Duration> },
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

    /// The marker was not published: it is tried again after a while.
    pub(crate) fn marker_failed(&mut self, marker: Marker, now: Now) {
        const PAUSE: Duration = Duration::from_millis(500);
        if let Some(owned) = self.partitions.get_mut(&marker.partition.0)
            && let PartitionState::Learning { number, again } = &mut owned.state
            && *number == marker.number
        {
            *again = Some(now.steady + PAUSE);
        }
    }

    /// A marker came back: if it is the one awaited, everything parked in the partition is known.
    pub(super) fn marker_returned(&mut self, partition: u32, number: u64, now: Now) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        if !matches!(owned.state, PartitionState::Learning { number: awaited, .. } if awaited == number) {
            return;
        }
        owned.state = PartitionState::Open;
        for index in 0..self.lanes.len() {
            if self.lanes[index].partition == partition {
                self.schedule(index as u32, now);
            }
        }
    }

    pub(super) fn partition(&mut self, partition: u32, now: Now) {
        if self.partitions.contains_key(&partition) {
            return;
        }
        let learn = self.settings.ordered && self.settings.parking.is_some();
        let state = if learn {
            let number = self.new_number(now);
            self.markers.push(Marker { partition: Partition(partition), number });
            PartitionState::Learning { number, again: None }
        } else {
            PartitionState::Open
        };
        self.partitions.insert(partition, Owned { state, busy: 0 });
    }

    pub(super) fn is_open(&self, partition: u32) -> bool {
        self.partitions.get(&partition).is_some_and(|owned| owned.state == PartitionState::Open)
    }

    pub(super) fn is_ours(&self, partition: u32) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// Whether messages of it are taken in.
    pub(super) fn takes_up(&self, partition: u32) -> bool {
        self.partitions.get(&partition).is_some_and(|owned| owned.state != PartitionState::Revoking)
    }

    pub(super) fn is_learning(&self, partition: u32) -> bool {
        let learning = |owned: &Owned| matches!(owned.state, PartitionState::Learning { .. });
        self.partitions.get(&partition).is_some_and(learning)
    }

    pub(super) fn is_learning_any(&self) -> bool {
        self.partitions.values().any(|owned| matches!(owned.state, PartitionState::Learning { .. }))
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

    pub(super) fn remind_markers(&mut self, now: Now) {
        for (partition, owned) in &mut self.partitions {
            if let PartitionState::Learning { number, again } = &mut owned.state
                && again.is_some_and(|at| at <= now.steady)
            {
                *again = None;
                self.markers.push(Marker { partition: Partition(*partition), number: *number });
            }
        }
    }

    pub(super) fn next_marker(&self, now: Now) -> Option<Duration> {
        let again = |owned: &Owned| match owned.state {
            PartitionState::Learning { again, .. } => again,
            _ => None,
        };
        self.partitions.values().filter_map(again).min().map(|at| at.saturating_sub(now.steady))
    }

    fn release_if_quiet(&mut self, partition: u32) {
        let quiet = |owned: &Owned| owned.state == PartitionState::Revoking && owned.busy == 0;
        if self.partitions.get(&partition).is_some_and(quiet) {
            // What was prefetched goes to the successor, as if it had never come.
            self.lost(Partition(partition), Now::default());
            self.released.push(Partition(partition));
        }
    }

    fn new_number(&mut self, now: Now) -> u64 {
        // Unique over the consumers that may have left markers, for all practical purposes.
        let low = (self.random() * f64::from(u32::MAX)) as u64;
        (now.wall.as_millis() << 32) ^ low
    }
}
