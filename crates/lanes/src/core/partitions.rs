use std::collections::BTreeMap;
use std::time::Duration;

use partitura_broker::Partition;

use super::markers::Markers;
use super::model::Marker;

/// The partitions that are ours.
#[derive(Debug, Default)]
pub(super) struct Partitions(BTreeMap<u32, Owned>);

/// A partition that is ours.
#[derive(Debug)]
pub(super) struct Owned {
    state: PartitionState,
    /// Distinguishes this term of ownership from all others, of all owners.
    term: u64,
    /// How many lanes and moves of it are under way.
    busy: usize,
    /// How many redelivered messages of it came without a note.
    redelivered: usize,
    pub(super) markers: Markers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartitionState {
    /// The parked messages are not known yet: the marker of this term is awaited.
    Learning,
    /// Lanes run.
    Open,
    /// Lanes finish.
    Revoking,
}

impl Partitions {
    pub(super) fn insert(&mut self, partition: u32, state: PartitionState, term: u64) {
        self.0.insert(partition, Owned { state, term, busy: 0, redelivered: 0, markers: Markers::default() });
    }

    pub(super) fn remove(&mut self, partition: Partition) {
        self.0.remove(&partition.0);
    }

    /// All partitions that are ours.
    pub(super) fn all(&self) -> Vec<Partition> {
        self.0.keys().copied().map(Partition).collect()
    }

    pub(super) fn contains(&self, partition: u32) -> bool {
        self.0.contains_key(&partition)
    }

    pub(super) fn get_mut(&mut self, partition: Partition) -> Option<&mut Owned> {
        self.0.get_mut(&partition.0)
    }

    /// The partition, if it is still owned in the term of this marker.
    pub(super) fn of_marker(&mut self, marker: Marker) -> Option<&mut Owned> {
        self.get_mut(marker.partition).filter(|owned| owned.term == marker.term)
    }

    /// The number of the current term; 0 if the partition is not ours.
    pub(super) fn term(&self, partition: u32) -> u64 {
        self.0.get(&partition).map_or(0, |owned| owned.term)
    }

    pub(super) fn is_open(&self, partition: u32) -> bool {
        self.is(partition, PartitionState::Open)
    }

    pub(super) fn is_learning(&self, partition: u32) -> bool {
        self.is(partition, PartitionState::Learning)
    }

    pub(super) fn is_learning_any(&self) -> bool {
        self.0.values().any(|owned| owned.state == PartitionState::Learning)
    }

    /// Whether its messages are taken in.
    pub(super) fn accepts(&self, partition: u32) -> bool {
        self.0.get(&partition).is_some_and(|owned| owned.state != PartitionState::Revoking)
    }

    /// Whether it is to be released, and nothing of it is under way any more.
    pub(super) fn is_releasable(&self, partition: u32) -> bool {
        self.0.get(&partition).is_some_and(|owned| owned.state == PartitionState::Revoking && owned.busy == 0)
    }

    /// Whether messages that this term parked come too late.
    pub(super) fn is_void(&self, partition: u32, term: u64) -> bool {
        self.0.get(&partition).is_some_and(|owned| owned.markers.voids(term))
    }

    /// Whether the parked messages of the partition are being learned, and may be parked anew meanwhile.
    pub(super) fn learns_behind_marker(&self, partition: u32) -> bool {
        self.is_learning(partition) && self.0.get(&partition).is_some_and(|owned| owned.markers.is_confirmed())
    }

    /// Whether a former owner may have begun this redelivered message of the partition: it is one of the first `most`.
    pub(super) fn may_have_begun(&mut self, partition: u32, most: usize) -> bool {
        let Some(owned) = self.0.get_mut(&partition) else { return false };
        owned.redelivered = owned.redelivered.saturating_add(1);
        owned.redelivered <= most
    }

    /// The markers that are to be published now.
    pub(super) fn due_markers(&mut self, steady: Duration) -> impl Iterator<Item = Marker> {
        let owned = self.0.iter_mut().filter(|(_, owned)| owned.state != PartitionState::Revoking);
        owned.filter_map(move |(partition, owned)| {
            let due = owned.markers.take_due(steady);
            due.then_some(Marker { partition: Partition(*partition), term: owned.term })
        })
    }

    /// The moment at which the next marker is to be published.
    pub(super) fn next_marker(&self) -> Option<Duration> {
        let owned = self.0.values().filter(|owned| owned.state != PartitionState::Revoking);
        owned.filter_map(|owned| owned.markers.due()).min()
    }

    fn is(&self, partition: u32, state: PartitionState) -> bool {
        self.0.get(&partition).is_some_and(|owned| owned.state == state)
    }
}

impl Owned {
    pub(super) fn term(&self) -> u64 {
        self.term
    }

    pub(super) fn is_learning(&self) -> bool {
        self.state == PartitionState::Learning
    }

    pub(super) fn open(&mut self) {
        self.state = PartitionState::Open;
    }

    pub(super) fn revoke(&mut self) {
        self.state = PartitionState::Revoking;
    }

    pub(super) fn begin(&mut self) {
        self.busy += 1;
    }

    pub(super) fn end(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }
}
