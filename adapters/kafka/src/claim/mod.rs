//! Shared topics: any number of consumers compete for single messages.
//!
//! A partition of Kafka has one reader per group, and whoever is slow holds up what lies behind. Here a slow consumer may
//! hold only what it was given. So a shared topic is one partition that every member reads, and a log beside it decides
//! who gets what: a member appends a *claim* for messages, and in the order of that log the first claim to a message
//! counts. Everybody reads the log, so everybody comes to the same `ledger`. Settling is another entry. Members beat; one
//! that is silent for the length of a session is declared gone by whoever notices, and what it held is free again.
//!
//! This needs nothing of the brokers but appending and reading in order, and holds on every version. Share groups
//! (KIP-932) would do the same on the brokers from 4.2 on, once the client has them.

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

/// One topic of a shared subscription. The work is done by a task, which goes on while nobody asks for messages.
#[derive(Debug)]
pub(crate) struct SharedClaim {
    /// Unbounded, and yet bounded by what was granted.
    tasks: mpsc::UnboundedSender<Task>,
    /// Bounded by what the member may hold ahead.
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
        // If nobody is there any more, the next flush says so.
        let _ = self.tasks.send(Task::Settle(handles));
    }

    async fn flush(&mut self) -> Result<()> {
        self.ask(Task::Flush).await
    }

    async fn release(self) -> Result<()> {
        self.ask(Task::Leave).await
    }
}
