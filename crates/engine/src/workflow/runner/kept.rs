//! The memory of a worker: instances between their turns, and the partitions that it owns.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;

use futures::future::Shared;
use partitura_broker::{Partition, Timestamp};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::workflow::by_instance::{ByInstance, at_most};
use crate::workflow::instance::Instance;

/// Instances and partitions.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) instances: ByInstance<(Partition, Instance)>,
    ownerships: BTreeMap<Partition, Ownership>,
    /// Partitions in which the broker has refused a settlement: perhaps another has them, and we are yet to hear of it.
    pub(super) suspects: HashSet<Partition>,
}

/// Resolves when the outbox of earlier owners was sent; with an error, when the partition goes elsewhere before. Wakes
/// those that wait in the order in which they began to.
pub(super) type Recovered = Shared<oneshot::Receiver<()>>;

/// The ownership of a partition.
#[derive(Debug, Default)]
struct Ownership {
    /// How often it has gone elsewhere. A turn that began before that must not leave its instance behind: should the
    /// partition come back, it would be out of date, and pass over what it does not expect.
    term: u64,
    /// Since when it is ours.
    since: Option<Instant>,
    recovered: Option<Recovered>,
    /// How many redelivered commands of it were taken.
    redelivered: usize,
    /// Tells when the run is deleted that has ended last.
    expiries: watch::Sender<Option<Timestamp>>,
}

impl Kept {
    pub(super) fn new(instances: NonZeroUsize) -> Self {
        Self { instances: at_most(instances), ownerships: BTreeMap::new(), suspects: HashSet::new() }
    }

    pub(super) fn term(&self, partition: Partition) -> u64 {
        self.ownerships.get(&partition).map(|ownership| ownership.term).unwrap_or_default()
    }

    /// In which term the partition is ours, if it is.
    pub(super) fn owned_in(&self, partition: Partition) -> Option<u64> {
        let ownership = self.ownerships.get(&partition)?;
        ownership.since.is_some().then_some(ownership.term)
    }

    /// Since when the partition is ours, if it is.
    pub(super) fn since(&self, partition: Partition) -> Option<Instant> {
        self.ownerships.get(&partition).and_then(|ownership| ownership.since)
    }

    /// Tells when the outbox of earlier owners was sent. `None`: nobody has to wait for that.
    pub(super) fn recovered(&self, partition: Partition) -> Option<Recovered> {
        self.ownerships.get(&partition).and_then(|ownership| ownership.recovered.clone())
    }

    /// Whether an earlier owner may have begun one of these redelivered commands, of which it held `most` at a time.
    /// Some brokers flag all commands that wait in the partition.
    pub(super) fn may_have_begun(&mut self, partition: Partition, commands: usize, most: usize) -> bool {
        let ownership = self.ownerships.entry(partition).or_default();
        let before = ownership.redelivered;
        ownership.redelivered = before.saturating_add(commands);
        before < most
    }

    /// The partition is ours. Gives its term, and hears of its expiries.
    pub(super) fn take_over(
        &mut self,
        partition: Partition,
        recovered: Option<Recovered>,
    ) -> (u64, watch::Receiver<Option<Timestamp>>) {
        let ownership = self.ownerships.entry(partition).or_default();
        ownership.since = Some(Instant::now());
        ownership.recovered = recovered;
        ownership.redelivered = 0;
        (ownership.term, ownership.expiries.subscribe())
    }

    /// A run of the partition has ended, and is deleted then.
    pub(super) fn expires(&self, partition: Partition, due: Timestamp) {
        if let Some(ownership) = self.ownerships.get(&partition) {
            ownership.expiries.send_replace(Some(due));
        }
    }

    /// The partition is no longer ours.
    pub(super) fn let_go(&mut self, partition: Partition) {
        let ownership = self.ownerships.entry(partition).or_default();
        *ownership = Ownership { term: ownership.term + 1, ..Ownership::default() };
        self.suspects.remove(&partition);
    }

    /// The partitions that are ours.
    pub(super) fn owned(&self) -> Vec<Partition> {
        self.ownerships
            .iter()
            .filter(|(_, ownership)| ownership.since.is_some())
            .map(|(partition, _)| *partition)
            .collect()
    }
}
