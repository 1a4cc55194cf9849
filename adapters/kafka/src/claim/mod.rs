//! Shared topics: any number of consumers compete for single messages.
//!
//! A partition of Kafka has one reader per group, and a slow reader holds up the messages behind its own. On a
//! shared topic a slow consumer may hold up only its own messages. So a shared topic is one partition that every
//! member reads, and a log beside it decides which member gets which message. A member appends a *claim* for
//! messages. In the order of that log, the first claim to a message counts. All members read the log, so all of
//! them have the same `ledger`. A settlement is another entry. Members send heartbeats. A member that is silent for
//! the length of a session is declared gone by another one, and its messages are free again.
//!
//! The brokers only have to append and to read in order, so this works on every version. Share groups (KIP-932)
//! could replace it on brokers from 4.2 on, once the client supports them.

mod broadcast;
mod entry;
mod ledger;
mod log;
mod messages;
mod worker;

use std::sync::Arc;

use async_trait::async_trait;
use partitura_adapter_kit::{Claim, Claimed};
use partitura_broker::{Error, ErrorKind, Result, SubscriptionName, TopicName};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::broadcast::BroadcastClaim;
use self::worker::{ClaimLogWorker, Task};
use crate::core::Core;

/// The claim of a member to messages of one shared topic. A task does the work, and continues while the consumer
/// does not ask for messages.
#[derive(Debug)]
pub(crate) struct SharedClaim {
    /// Unbounded as a channel, but limited by the granted messages.
    tasks: mpsc::UnboundedSender<Task>,
    /// Limited by the number of messages that the member may hold ahead.
    granted: mpsc::UnboundedReceiver<Result<Vec<Claimed<i64>>>>,
}

impl SharedClaim {
    /// Begins to claim messages.
    pub(crate) async fn open(
        core: &Arc<Core>,
        topic: &TopicName,
        subscription: &SubscriptionName,
        group: &str,
        ahead: usize,
    ) -> Result<Self> {
        let worker = ClaimLogWorker::open(core, topic, subscription, group, ahead).await?;
        let (tasks, asked) = mpsc::unbounded_channel();
        let (granted, received) = mpsc::unbounded_channel();
        tokio::spawn(worker.work(asked, granted));
        Ok(Self { tasks, granted: received })
    }

    async fn ask(&self, task: impl FnOnce(oneshot::Sender<Result<()>>) -> Task) -> Result<()> {
        let ended = || Error::new(ErrorKind::Disconnected, "settle", "the subscription's log could not be followed");
        let (reply, answer) = oneshot::channel();
        self.tasks.send(task(reply)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

#[async_trait]
impl Claim for SharedClaim {
    type Handle = i64;

    async fn next(&mut self) -> Result<Vec<Claimed<i64>>> {
        let ended =
            || Err(Error::new(ErrorKind::Disconnected, "consume", "the subscription's log could not be followed"));
        self.granted.recv().await.unwrap_or_else(ended)
    }

    fn settle(&mut self, handles: Vec<i64>) {
        // If the task has ended, the next flush returns the error.
        let _ = self.tasks.send(Task::Settle(handles));
    }

    async fn flush(&mut self) -> Result<()> {
        self.ask(Task::Flush).await
    }

    async fn release(self) -> Result<()> {
        self.ask(Task::Leave).await
    }
}

/// Reads an entry of the log, for `fuzzing`.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode_entry(text: &str) {
    if let Some(entry) = entry::Entry::decode(text) {
        assert_eq!(entry::Entry::decode(&entry.encode()), Some(entry), "what was read can be written");
    }
}
