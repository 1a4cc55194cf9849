use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use partitura_broker::telemetry::TARGET;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use crate::callbacks::Callbacks;

/// Commits on a thread of its own: rdkafka tells the outcome of a commit only to who waits for it, and the thread that
/// polls must not wait.
pub(super) struct Committer {
    requests: mpsc::Sender<TopicPartitionList>,
    results: mpsc::Receiver<KafkaResult<()>>,
    thread: JoinHandle<()>,
}

impl Committer {
    pub(super) fn start(consumer: Arc<BaseConsumer<Callbacks>>) -> std::io::Result<Self> {
        let (requests, asked) = mpsc::channel::<TopicPartitionList>();
        let (answers, results) = mpsc::channel();
        let commit = move || {
            for list in asked {
                // Whether anybody still waits does not matter.
                let _heard = answers.send(consumer.commit(&list, CommitMode::Sync));
            }
        };
        let thread = thread::Builder::new().name("kafka-commits".into()).spawn(commit)?;
        Ok(Self { requests, results, thread })
    }

    /// Begins a commit. There is one answer to each.
    pub(super) fn send(&self, list: TopicPartitionList) {
        if self.requests.send(list).is_err() {
            tracing::error!(target: TARGET, "the committing thread ended before its time");
        }
    }

    /// The answer, if it has come.
    pub(super) fn answer(&self) -> Option<KafkaResult<()>> {
        match self.results.try_recv() {
            Ok(answer) => Some(answer),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => Some(Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::Fail))),
        }
    }

    /// Ends the thread, after what was begun.
    pub(super) fn end(self) {
        drop(self.requests);
        if self.thread.join().is_err() {
            tracing::error!(target: TARGET, "the committing thread panicked");
        }
    }
}
