use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Consumer};
use partitura_adapter_kit::{Claim, Claimed};
use partitura_broker::{Error, ErrorKind, Partition, Result, TopicName};
use tokio::time::Instant;

use crate::error::closed;
use crate::hold::Hold;
use crate::link::{Link, answer, open_channel, uncancelled};
use crate::settled::{Settled, Tag};
use crate::topology::look_at;
use crate::{names, wire};

/// How many messages are given out at once.
const BATCH: usize = 256;

/// A queue that this process consumes, and the lock on it where it excludes others.
#[derive(Debug)]
pub(crate) struct QueueClaim {
    link: Arc<Link>,
    topic: TopicName,
    queue: String,
    /// `None`: the routing key of each message tells.
    partition: Option<Partition>,
    /// `None` once it was given up.
    hold: Option<Reading>,
    settled: Settled,
    limit: Arc<Hold>,
    /// When this last looked what had come: what is there at the next look came since.
    looked: Instant,
}

/// What holds a queue.
#[derive(Debug)]
struct Reading {
    channel: Channel,
    consumer: Consumer,
    lock: Option<Lock>,
}

impl QueueClaim {
    /// Consumes a queue, with at most `ahead` messages unsettled.
    pub(crate) async fn consume(
        link: Arc<Link>,
        channel: Channel,
        topic: TopicName,
        queue: String,
        partition: Option<Partition>,
        ahead: usize,
        lock: Option<Lock>,
    ) -> Result<Self> {
        let explain = |error| link.explain(error, "consume").of(&topic);
        // The client reads whatever comes, so this is the only bound.
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
        let (hold, limit) = (Some(Reading { channel, consumer, lock }), link.dial().hold().clone());
        let (settled, looked) = (Settled::default(), Instant::now());
        Ok(Self { link, topic, queue, partition, hold, settled, limit, looked })
    }

    fn claimed(&self, delivery: Delivery) -> Claimed<Tag> {
        let (message, again) = wire::message(self.topic.clone(), &delivery.properties, delivery.data);
        let routed = || delivery.routing_key.as_str().parse().unwrap_or_default();
        Claimed {
            partition: self.partition.unwrap_or_else(|| Partition(routed())),
            message,
            redelivered: delivery.redelivered || again,
            handle: delivery.delivery_tag,
        }
    }

    fn lost(&self, error: Option<lapin::Error>) -> Error {
        match error {
            Some(error) => {
                self.limit.learn(&error);
                self.link.lost(error, "consume").of(&self.topic)
            }
            None if self.link.dial().is_closed() => closed("consume"),
            None => {
                let message = format!("the broker ended it: {:?} was deleted, or its node is gone", self.queue);
                Error::new(ErrorKind::Disconnected, "consume", message).of(&self.topic)
            }
        }
    }
}

#[async_trait]
impl Claim for QueueClaim {
    type Handle = Tag;

    async fn next(&mut self) -> Result<Vec<Claimed<Tag>>> {
        let Some(hold) = &mut self.hold else { return Err(closed("consume")) };
        let mut waited = false;
        let next = futures::future::poll_fn(|context| {
            let next = hold.consumer.poll_next_unpin(context);
            waited |= next.is_pending();
            next
        });
        let first = match next.await {
            Some(Ok(first)) => first,
            ended => return Err(self.lost(ended.and_then(lapin::Result::err))),
        };
        let mut deliveries = vec![first];
        while deliveries.len() < BATCH {
            // The end of the stream is met again at the next call.
            let Some(Some(Ok(next))) = hold.consumer.next().now_or_never() else { break };
            deliveries.push(next);
        }
        let now = Instant::now();
        let since = if waited { now } else { self.looked };
        self.looked = now;
        if let Some(last) = deliveries.last() {
            self.settled.came(last.delivery_tag, since);
        }
        Ok(deliveries.into_iter().map(|delivery| self.claimed(delivery)).collect())
    }

    fn deadline(&self) -> Option<Instant> {
        self.settled.held_since()?.checked_add(self.limit.ours())
    }

    fn settle(&mut self, tags: Vec<Tag>) {
        if let Some(hold) = &self.hold {
            self.settled.acknowledge(&hold.channel, tags);
        }
    }

    async fn flush(&mut self) -> Result<()> {
        let Some(hold) = &self.hold else { return Err(closed("flush settlements")) };
        let answered = hold.sync(&self.queue).await;
        answered.map_err(|error| self.link.lost(error, "flush settlements").of(&self.topic))
    }

    async fn release(mut self) -> Result<()> {
        // What the broker has not passed on to the queue when the channel is closed would come again. If this is dropped
        // meanwhile, for it takes too long, dropping the claim gives it up.
        let synced = self.flush().await;
        let Some(hold) = self.hold.take() else { return synced };
        let (link, topic) = (self.link.clone(), self.topic.clone());
        // From here on to its end: a lock that nobody frees is the connection's for as long as that lives.
        let given_up = uncancelled(async move {
            hold.give_up().await.map_err(|error| link.lost(error, "give a partition up").of(&topic))
        });
        synced.and(given_up.await)
    }
}

impl Drop for QueueClaim {
    fn drop(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        // Without a runtime the process is ending, and the connection with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(hold.give_up());
        }
    }
}

impl Reading {
    /// Waits until the queue has taken all settlements, and written them.
    ///
    /// The broker's channel keeps settlements back while 32 of them are on their way to a quorum queue, so that its answers
    /// say nothing about them. To begin and to end consuming are entries of the queue's log, like settlements, and are
    /// answered when they are written: at the first the channel learns that it may send what it kept back, and the second
    /// is behind that. This second consumer gets nothing, since a single one is active.
    ///
    /// A shared queue would serve it, so there the answer of the queue's process has to do.
    async fn sync(&self, queue: &str) -> lapin::Result<()> {
        if self.lock.is_none() {
            return look_at(&self.channel, queue).await;
        }
        let options = BasicConsumeOptions::default();
        let second = self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let second = answer(second).await?;
        answer(self.channel.basic_cancel(second.tag(), BasicCancelOptions::default())).await
    }

    /// Closes the channel, upon which the broker puts back what is unsettled, in order; then frees the lock.
    ///
    /// The consumer must outlive the channel: when it is dropped before, the client cancels it, and the broker serves a
    /// successor with later messages while the earlier ones are still held here.
    async fn give_up(self) -> lapin::Result<()> {
        let closed = answer(self.channel.close(200, "given up".into())).await;
        drop(self.consumer);
        if let Some(lock) = self.lock {
            lock.free().await;
        }
        closed
    }
}

/// The lock of a partition: an exclusive queue, which only one connection can have, and which goes with it. Within the
/// connection, that is within one consumer, the names that are held say who has it.
#[derive(Debug)]
pub(crate) struct Lock {
    connection: Arc<Connection>,
    name: String,
    held: Held,
}

/// The locks that one consumer holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<Mutex<HashSet<String>>>);

impl Lock {
    /// Takes the lock of a queue, by way of a channel that is of no use if this fails.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) while another has it.
    pub(crate) async fn take(
        link: &Link,
        connection: Arc<Connection>,
        channel: &Channel,
        held: &Held,
        queue: &str,
    ) -> Result<Self> {
        let name = names::owner(queue);
        if !held.names().insert(name.clone()) {
            return Err(busy(queue));
        }
        // From here on dropping it frees the name.
        let lock = Self { connection, name, held: held.clone() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        match answer(channel.queue_declare(lock.name.as_str().into(), options, arguments)).await {
            Ok(_) => Ok(lock),
            Err(error) => match link.explain(error, "consume") {
                error if error.kind() == ErrorKind::Busy => Err(busy(queue).because(error)),
                error => Err(error.of(queue)),
            },
        }
    }

    /// Gives it back. If that fails then because the connection is gone, and the lock with it.
    async fn free(self) {
        if let Ok(channel) = open_channel(&self.connection).await {
            let _ = answer(channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default())).await;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.held.names().remove(&self.name);
    }
}

impl Held {
    fn names(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That another consumer owns a partition.
pub(crate) fn busy(queue: &str) -> Error {
    Error::new(ErrorKind::Busy, "consume", "another consumer owns this partition").of(queue)
}
