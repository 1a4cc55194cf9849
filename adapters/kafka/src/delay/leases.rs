//! The partitions of queues that this process owns, and whose delayed messages it forwards.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};

use partitura_broker::TopicName;

/// A partition of the delayed messages of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct OwnedPartition {
    pub(super) topic: TopicName,
    pub(super) partition: u32,
}

/// An event for the thread that forwards the delayed messages of owned partitions.
#[derive(Debug)]
pub(super) enum Signal {
    /// A partition was taken over, or given back.
    Changed,
    /// The queue of a partition may have a record.
    Filled(OwnedPartition),
}

/// All leases of a connection.
#[derive(Debug)]
pub(crate) struct Leases {
    held: Mutex<HashMap<OwnedPartition, Weak<Lease>>>,
    signals: mpsc::Sender<Signal>,
}

/// The delayed messages of a partition are forwarded for as long as this is held.
#[derive(Debug)]
pub(crate) struct Lease {
    signals: mpsc::Sender<Signal>,
}

impl Leases {
    pub(super) fn new(signals: mpsc::Sender<Signal>) -> Self {
        Self { held: Mutex::default(), signals }
    }

    /// Has the delayed messages of a partition forwarded. A consumer that has lost a partition without knowing it yet
    /// and the one that owns it now may both hold it.
    pub(crate) fn hold(&self, topic: &TopicName, partition: u32) -> Arc<Lease> {
        let key = OwnedPartition { topic: topic.clone(), partition };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = held.get(&key).and_then(Weak::upgrade) {
            return lease;
        }
        let lease = Arc::new(Lease { signals: self.signals.clone() });
        held.insert(key, Arc::downgrade(&lease));
        // The thread has ended if the connection was closed.
        let _sent = self.signals.send(Signal::Changed);
        lease
    }

    /// The partitions that are held.
    pub(super) fn held(&self) -> BTreeSet<OwnedPartition> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, lease| lease.strong_count() > 0);
        held.keys().cloned().collect()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _sent = self.signals.send(Signal::Changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_forwarded_until_its_last_owner_gives_it_back() {
        let (signals, received) = mpsc::channel();
        let (leases, topic) = (Leases::new(signals), TopicName::new("t").expect("a valid name"));
        let (former, owner) = (leases.hold(&topic, 3), leases.hold(&topic, 3));
        drop(former);
        assert_eq!(leases.held().len(), 1);
        drop(owner);
        assert!(leases.held().is_empty());
        assert_eq!(received.try_iter().count(), 2, "taken over once, given back once");
    }
}
