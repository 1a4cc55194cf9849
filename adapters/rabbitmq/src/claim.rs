use std::sync::Arc;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use partitura_adapter_kit::{Claim, Claimed};
use partitura_broker::{Error, ErrorKind, Partition, Result, TopicName};
use tokio::time::Instant;

use crate::client::{Connector, answer, uncancelled};
use crate::error::closed;
use crate::hold::HoldLimit;
use crate::lock::PartitionLock;
use crate::settlement::{Settlement, Tag};
use crate::{queues, wire};

/// The largest number of messages that are given out at once.
const MAX_BATCH: usize = 256;

/// A queue to consume.
pub(crate) struct Claimable {
    pub(crate) topic: TopicName,
    pub(crate) queue: String,
    /// `None`: the routing key of each message has it.
    pub(crate) partition: Option<Partition>,
    /// The largest number of unsettled messages.
    pub(crate) ahead: usize,
    /// The lock of an ordered partition.
    pub(crate) lock: Option<PartitionLock>,
}

/// A queue that this process consumes, with its lock if it excludes other consumers.
#[derive(Debug)]
pub(crate) struct QueueClaim {
    connector: Arc<Connector>,
    topic: TopicName,
    queue: String,
    /// `None`: the routing key of each message has it.
    partition: Option<Partition>,
    /// `None` once it was given up.
    reading: Option<Reading>,
    settlement: Settlement,
    limit: Arc<HoldLimit>,
    /// The moment of the last read. Messages that are there at the next read have come since.
    read_at: Instant,
}

/// The channel and the consumer that hold a queue.
#[derive(Debug)]
struct Reading {
    channel: Channel,
    consumer: Consumer,
    lock: Option<PartitionLock>,
}

impl QueueClaim {
    /// Consumes a queue.
    pub(crate) async fn consume(connector: Arc<Connector>, channel: Channel, claimable: Claimable) -> Result<Self> {
        let Claimable { topic, queue, partition, ahead, lock } = claimable;
        let explain = |error| connector.explain("consume", error).of(&topic);
        // The client buffers everything that comes, so this is the only bound.
        let prefetch = u16::try_from(ahead).unwrap_or(u16::MAX).max(1);
        let consuming = async {
            answer(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
            let options = BasicConsumeOptions::default();
            answer(channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default())).await
        };
        let consumer = match consuming.await {
            Ok(consumer) => consumer,
            Err(error) => {
                if let Some(lock) = lock {
                    lock.free().await;
                }
                return Err(explain(error));
            }
        };
        let (reading, limit) = (Some(Reading { channel, consumer, lock }), connector.client().hold_limit().clone());
        let (settlement, read_at) = (Settlement::default(), Instant::now());
        Ok(Self { connector, topic, queue, partition, reading, settlement, limit, read_at })
    }

    fn claimed(&self, delivery: Delivery) -> Claimed<Tag> {
        let wire::Received { message, is_repeated } =
            wire::message(self.topic.clone(), &delivery.properties, delivery.data);
        let routed = || delivery.routing_key.as_str().parse().unwrap_or_default();
        Claimed {
            partition: self.partition.unwrap_or_else(|| Partition(routed())),
            message,
            redelivered: delivery.redelivered || is_repeated,
            handle: delivery.delivery_tag,
        }
    }

    fn lost(&self, error: Option<lapin::Error>) -> Error {
        match error {
            Some(error) => {
                self.limit.learn(&error);
                self.connector.lost("consume", error).of(&self.topic)
            }
            None if self.connector.client().is_closed() => closed("consume"),
            None => {
                let message =
                    format!("the broker ended the consumer: {:?} was deleted, or its node is gone", self.queue);
                Error::new(ErrorKind::Disconnected, "consume", message).of(&self.topic)
            }
        }
    }
}

#[async_trait]
impl Claim for QueueClaim {
    type Handle = Tag;

    async fn next(&mut self) -> Result<Vec<Claimed<Tag>>> {
        let Some(reading) = &mut self.reading else { return Err(closed("consume")) };
        let mut waited = false;
        let next = futures::future::poll_fn(|context| {
            let next = reading.consumer.poll_next_unpin(context);
            waited |= next.is_pending();
            next
        });
        let first = match next.await {
            Some(Ok(first)) => first,
            ended => return Err(self.lost(ended.and_then(lapin::Result::err))),
        };
        let mut deliveries = vec![first];
        while deliveries.len() < MAX_BATCH {
            // The next call meets the end of the stream again.
            let Some(Some(Ok(next))) = reading.consumer.next().now_or_never() else { break };
            deliveries.push(next);
        }
        let now = Instant::now();
        let since = if waited { now } else { self.read_at };
        self.read_at = now;
        if let Some(last) = deliveries.last() {
            self.settlement.came(last.delivery_tag, since);
        }
        Ok(deliveries.into_iter().map(|delivery| self.claimed(delivery)).collect())
    }

    fn deadline(&self) -> Option<Instant> {
        self.settlement.held_since()?.checked_add(self.limit.local())
    }

    fn settle(&mut self, tags: Vec<Tag>) {
        if let Some(reading) = &self.reading {
            self.settlement.acknowledge(&reading.channel, tags);
        }
    }

    async fn flush(&mut self) -> Result<()> {
        let Some(reading) = &self.reading else { return Err(closed("flush settlements")) };
        let answered = reading.sync(&self.queue).await;
        answered.map_err(|error| self.connector.lost("flush settlements", error).of(&self.topic))
    }

    async fn release(mut self) -> Result<()> {
        // Settlements that the broker has not passed on to the queue when the channel is closed are lost. If this
        // future is dropped meanwhile, because it takes too long, dropping the claim gives the queue up.
        let synced = self.flush().await;
        let Some(reading) = self.reading.take() else { return synced };
        let (connector, topic) = (self.connector.clone(), self.topic.clone());
        // This must run to its end: a lock that is not freed stays with the connection for as long as that lives.
        let given_up = uncancelled(async move {
            reading.give_up().await.map_err(|error| connector.lost("give a partition up", error).of(&topic))
        });
        synced.and(given_up.await)
    }
}

impl Drop for QueueClaim {
    fn drop(&mut self) {
        let Some(reading) = self.reading.take() else { return };
        // Without a runtime the process is ending, and the connection with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(reading.give_up());
        }
    }
}

impl Reading {
    /// Waits until the queue has taken all settlements, and written them.
    ///
    /// The broker's channel keeps settlements back while 32 of them are on their way to a quorum queue, so that its
    /// answers say nothing about them. The start and the end of a consumer are entries of the queue's log, like
    /// settlements, and are answered when they are written. At the first of them the channel learns that it may send
    /// the settlements that it kept back, and the second is after those. This second consumer gets no messages, since
    /// only one consumer of the queue is active.
    ///
    /// A shared queue would send messages to it. There the answer of the queue's process must suffice.
    async fn sync(&self, queue: &str) -> lapin::Result<()> {
        if self.lock.is_none() {
            return queues::find(&self.channel, queue).await;
        }
        let options = BasicConsumeOptions::default();
        let second = self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let second = answer(second).await?;
        answer(self.channel.basic_cancel(second.tag(), BasicCancelOptions::default())).await
    }

    /// Closes the channel, so that the broker puts the unsettled messages back, in order. Then frees the lock.
    ///
    /// The consumer must outlive the channel. If it is dropped before, the client cancels it, and the broker sends
    /// later messages to the next owner while the earlier ones are still held here.
    async fn give_up(self) -> lapin::Result<()> {
        let closed = answer(self.channel.close(200, "given up".into())).await;
        drop(self.consumer);
        if let Some(lock) = self.lock {
            lock.free().await;
        }
        closed
    }
}
