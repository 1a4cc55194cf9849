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

mod desk;
mod entry;
mod hands;
mod ledger;
mod log;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_adapter_kit::{Claim, Claimed, Claims};
use partitura_broker::{DeclareMode, Error, ErrorKind, Partition, Result, SubscriptionName, TopicName};
use rdkafka::admin::{NewTopic, TopicReplication};
use tokio::sync::{mpsc, oneshot};

use self::desk::{Desk, Task};
use crate::core::Core;
use crate::{birth, names, topology};

/// Creates, or verifies, the log of a subscription.
pub(crate) async fn declare(
    core: &Core,
    topic: &TopicName,
    subscription: &SubscriptionName,
    mode: DeclareMode,
) -> Result<()> {
    let log = names::claims(topic, subscription);
    if mode == DeclareMode::Verify {
        return topology::partitions(core, &log).await.map(drop).map_err(|error| error.of(&log));
    }
    let replication = core.target().options.replication.map_or(-1, i32::from);
    let (largest, birth) = (topology::MAX_RECORD.to_string(), birth::labelled(0));
    let new = NewTopic::new(&log, 1, TopicReplication::Fixed(replication))
        .set("cleanup.policy", "delete")
        .set("retention.ms", "-1")
        .set("max.message.bytes", &largest)
        .set(birth.0, &birth.1);
    topology::create_all(core, &[new]).await?;
    topology::created(core, &log).await.map(drop)
}

/// A member of a shared subscription.
#[derive(Debug)]
pub(crate) struct Competing {
    pub(crate) core: Arc<Core>,
    pub(crate) subscription: SubscriptionName,
    pub(crate) group: String,
}

#[async_trait]
impl Claims for Competing {
    type Claim = Counter;

    async fn claim(&self, topic: &TopicName, _partition: Partition, ahead: usize) -> Result<Counter> {
        let desk = Desk::open(&self.core, topic, &self.subscription, &self.group, ahead).await?;
        let (tasks, asked) = mpsc::unbounded_channel();
        let (granted, received) = mpsc::unbounded_channel();
        tokio::spawn(desk.work(asked, granted));
        Ok(Counter { tasks, granted: received })
    }

    async fn send_heartbeat(&self, _heartbeat: Bytes) -> Result<()> {
        Ok(())
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        std::future::pending().await
    }
}

/// One topic of a shared subscription. The work is done by a task, which goes on while nobody asks for messages.
#[derive(Debug)]
pub(crate) struct Counter {
    /// Unbounded, and yet bounded by what was granted.
    tasks: mpsc::UnboundedSender<Task>,
    /// Bounded by what the member may hold ahead.
    granted: mpsc::UnboundedReceiver<Result<Vec<Claimed<i64>>>>,
}

impl Counter {
    async fn ask(&self, task: impl FnOnce(oneshot::Sender<Result<()>>) -> Task) -> Result<()> {
        let ended = || Error::new(ErrorKind::Disconnected, "settle", "the subscription's log could not be followed");
        let (reply, answer) = oneshot::channel();
        self.tasks.send(task(reply)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

#[async_trait]
impl Claim for Counter {
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
