use std::sync::{Arc, mpsc};

use partitura_broker::TopicName;
use partitura_broker::telemetry::TARGET;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use super::membership::Membership;
use super::progress::PartitionPosition;
use crate::callbacks::Callbacks;
use crate::names;

/// Commits on a thread for blocking tasks. rdkafka returns the outcome of a commit only to a caller that waits for it,
/// and the polling thread must not wait. A consumer at rest commits nothing, and needs no such thread.
pub(super) struct Committer {
    consumer: Arc<BaseConsumer<Callbacks>>,
    runtime: Handle,
    membership: Arc<Membership>,
    /// The commit whose outcome is not known yet. There is one at a time.
    under_way: Option<(Commit, mpsc::Receiver<KafkaResult<()>>)>,
}

/// A commit.
pub(super) struct Commit {
    /// The number of settlements that it contains.
    pub(super) settled: u64,
    pub(super) positions: Vec<PartitionPosition>,
    /// Whether its partitions are handed over after it.
    pub(super) last: bool,
}

/// The outcome of a commit.
pub(super) struct Outcome {
    pub(super) commit: Commit,
    pub(super) result: KafkaResult<()>,
}

impl Committer {
    pub(super) fn new(consumer: Arc<BaseConsumer<Callbacks>>, runtime: Handle, membership: Arc<Membership>) -> Self {
        Self { consumer, runtime, membership, under_way: None }
    }

    /// Whether the outcome of a commit is not known yet.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Begins a commit. `topics` are the names of the topics.
    pub(super) fn send(&mut self, topics: &[TopicName], commit: Commit) {
        let mut list = TopicPartitionList::with_capacity(commit.positions.len());
        for PartitionPosition { topic, partition, position } in &commit.positions {
            let mut element = list.add_partition(topics[*topic].as_str(), names::partition(*partition));
            element.set_metadata(position.encode());
            if let Err(error) = element.set_offset(Offset::Offset(position.offset)) {
                tracing::warn!(target: TARGET, %error, "an offset cannot be committed");
            }
        }
        let (answer, result) = mpsc::channel();
        let (consumer, membership) = (self.consumer.clone(), self.membership.clone());
        self.runtime.spawn_blocking(move || {
            let committed = consumer.commit(&list, CommitMode::Sync);
            // Both are gone when the worker learns of the outcome, and may drop the last reference to the consumer.
            drop(list);
            drop(consumer);
            // It does not matter whether the worker still waits.
            let _sent = answer.send(committed);
            membership.wake();
        });
        self.under_way = Some((commit, result));
    }

    /// The outcome of the commit, once there is one.
    pub(super) fn outcome(&mut self) -> Option<Outcome> {
        let (_, result) = self.under_way.as_ref()?;
        let result = match result.try_recv() {
            Ok(result) => result,
            Err(mpsc::TryRecvError::Empty) => return None,
            // The runtime is shutting down.
            Err(mpsc::TryRecvError::Disconnected) => Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::Fail)),
        };
        self.under_way.take().map(|(commit, _)| Outcome { commit, result })
    }

    /// Waits for the commit that is under way, which holds the consumer.
    pub(super) fn end(self) {
        if let Some((_, result)) = self.under_way {
            let _outcome = result.recv();
        }
    }
}
