use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use partitura_broker::TopicName;
use partitura_broker::telemetry::TARGET;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::progress::PartitionPosition;
use crate::callbacks::Callbacks;
use crate::names;

/// Commits on a thread of its own. rdkafka returns the outcome of a commit only to a caller that waits for it, and the
/// polling thread must not wait.
pub(super) struct Committer {
    requests: mpsc::Sender<TopicPartitionList>,
    results: mpsc::Receiver<KafkaResult<()>>,
    thread: JoinHandle<()>,
    /// The commit whose outcome is not known yet. There is one at a time.
    under_way: Option<Commit>,
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
    pub(super) fn start(consumer: Arc<BaseConsumer<Callbacks>>) -> std::io::Result<Self> {
        let (requests, asked) = mpsc::channel::<TopicPartitionList>();
        let (answers, results) = mpsc::channel();
        let commit = move || {
            for list in asked {
                // It does not matter whether the worker still waits.
                let _sent = answers.send(consumer.commit(&list, CommitMode::Sync));
            }
        };
        let thread = thread::Builder::new().name("kafka-commits".into()).spawn(commit)?;
        Ok(Self { requests, results, thread, under_way: None })
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
        self.under_way = Some(commit);
        if self.requests.send(list).is_err() {
            tracing::error!(target: TARGET, "the committing thread ended too early");
        }
    }

    /// The outcome of the commit, once there is one.
    pub(super) fn outcome(&mut self) -> Option<Outcome> {
        self.under_way.as_ref()?;
        let result = match self.results.try_recv() {
            Ok(result) => result,
            Err(mpsc::TryRecvError::Empty) => return None,
            Err(mpsc::TryRecvError::Disconnected) => Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::Fail)),
        };
        self.under_way.take().map(|commit| Outcome { commit, result })
    }

    /// Ends the thread after the commit that is under way.
    pub(super) fn end(self) {
        drop(self.requests);
        if self.thread.join().is_err() {
            tracing::error!(target: TARGET, "the committing thread panicked");
        }
    }
}
