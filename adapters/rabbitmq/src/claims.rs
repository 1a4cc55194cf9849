//! The members of subscriptions: the partitions that each claims, and the heartbeats between members.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::try_join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Consumer};
use partitura_adapter_kit::Claims;
use partitura_broker::{ConsumerOptions, Error, ErrorKind, Ordering, Partition, Result, SubscriptionName, TopicName};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::claim::{Claimable, QueueClaim};
use crate::client::{Connector, answer, uncancelled};
use crate::consuming::Seat;
use crate::core::Core;
use crate::delay::{self, Recovery};
use crate::error::closed;
use crate::lock::{PartitionLock, busy};
use crate::names;

const TELL: &str = "tell the other members";
const HEAR: &str = "hear the other members";

/// The number of messages, and of their bytes, that wait at the broker for a slow listener. Beyond it the oldest are
/// dropped.
const MAX_LAG: i64 = 65_536;
const MAX_LAG_BYTES: i64 = 64 << 20;
/// The number of heartbeats of other members that wait at the broker.
const MAX_HEARTBEATS: i64 = 1_024;
const HEARTBEATS_PREFETCH: u16 = 256;
/// The time in milliseconds after which a queue of a consumer is deleted that it has not consumed. Its connection may
/// live on.
const UNUSED_MS: i64 = 60_000;
/// The time after which a member that hears nobody listens anew. It always hears itself, unless an operator has deleted
/// the exchange of the topic: then its queue is bound to no exchange, also when there is one of that name again.
const SILENCE: Duration = Duration::from_secs(5);
/// The limit for writing a heartbeat to the connection.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of messages of a partition that may be in this process in any case. More than this wait for a failing one
/// before they are parked.
const MIN_AHEAD: usize = 128;

/// One member of one subscription, or a listener to a stream.
#[derive(Debug)]
pub(crate) struct RabbitmqClaims {
    core: Arc<Core>,
    /// The connection of its claims.
    seat: Seat,
    subscription: Option<SubscriptionName>,
    ordering: Ordering,
    /// The largest number of messages of a partition in this process.
    max_ahead: usize,
    /// The topic whose exchange has the members' heartbeats. It must be the same for all members: the first by name.
    heartbeat_topic: TopicName,
    /// The queues of a listener, from the moment when they were bound until they are consumed.
    prepared: Mutex<HashMap<TopicName, ListenerQueue>>,
    /// The channel that asks for queues.
    asking: Mutex<Option<Channel>>,
    heartbeats: Mutex<Option<Consumer>>,
    /// The channel that sends heartbeats.
    telling: Mutex<Option<Channel>>,
    /// A consumer of a topic forwards the messages of the topic that fall due. Aborted when this is dropped.
    _forwarders: JoinSet<()>,
}

/// A queue of a listener, and the channel on which it was declared.
#[derive(Debug)]
struct ListenerQueue {
    channel: Channel,
    name: String,
}

impl RabbitmqClaims {
    pub(crate) async fn open(
        core: Arc<Core>,
        recovery: Arc<Recovery>,
        options: &ConsumerOptions,
        ordering: Ordering,
    ) -> Result<Self> {
        let Some(heartbeat_topic) = options.topics.iter().min().cloned() else {
            return Err(Error::new(ErrorKind::InvalidArgument, "consume", "a consumer needs at least one topic"));
        };
        let seat = core.consuming.seat(&core.client, options, ordering.partitions());
        let connector = seat.connector().clone();
        connector.connection().await?;
        let mut prepared = HashMap::new();
        let mut forwarders = JoinSet::new();
        for topic in &options.topics {
            if options.subscription.is_none() {
                prepared.insert(topic.clone(), listen(&connector, topic, ordering).await?);
            }
            forwarders.spawn(delay::forward(core.clone(), recovery.clone(), connector.clone(), topic.clone()));
        }
        recovery.start(&core);
        Ok(Self {
            subscription: options.subscription.clone(),
            seat,
            prepared: Mutex::new(prepared),
            asking: Mutex::default(),
            heartbeats: Mutex::default(),
            telling: Mutex::default(),
            _forwarders: forwarders,
            ordering,
            max_ahead: max_ahead(&core, options, ordering),
            heartbeat_topic,
            core,
        })
    }

    /// Whether a consumer has the queue of a partition. This is asked first, since a request for a lock that is taken
    /// costs the channel.
    async fn is_consumed(&self, queue: &str) -> Result<bool> {
        let channel = match cached(&self.asking) {
            Some(channel) => channel,
            None => keep(&self.asking, self.seat.connector().channel().await?),
        };
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let found = answer(channel.queue_declare(queue.into(), options, FieldTable::default())).await;
        Ok(found.map_err(|error| self.seat.connector().explain("consume", error).of(queue))?.consumer_count() > 0)
    }

    /// Consumes a queue of the members' heartbeats.
    async fn consume_heartbeats(&self, subscription: &SubscriptionName) -> Result<Consumer> {
        let channel = self.seat.connector().channel().await?;
        let (exchange, key) = (names::exchange(&self.heartbeat_topic), names::members(subscription));
        let consuming = async {
            let queue = own_queue(&channel, &[("x-max-length", MAX_HEARTBEATS)]).await?;
            let options = QueueBindOptions::default();
            let (name, none) = (queue.as_str().into(), FieldTable::default());
            answer(channel.queue_bind(name, exchange.into(), key.into(), options, none)).await?;
            answer(channel.basic_qos(HEARTBEATS_PREFETCH, BasicQosOptions::default())).await?;
            let options = BasicConsumeOptions::default();
            answer(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default())).await
        };
        consuming.await.map_err(|error| self.seat.connector().lost(HEAR, error).of(subscription))
    }

    /// The channel for heartbeats. It is on the connection that publishes: the broker may stop reading from a
    /// connection that publishes, and would then not read the settlements on it.
    async fn heartbeat_channel(&self) -> Result<Channel> {
        let connection = self.core.publishing.connection().await?;
        if connection.status().blocked() {
            let message = "the broker takes no messages, since its memory or its disk is short";
            return Err(Error::new(ErrorKind::Throttled, TELL, message));
        }
        match cached(&self.telling) {
            Some(channel) => Ok(channel),
            None => Ok(keep(&self.telling, self.core.publishing.channel().await?)),
        }
    }
}

/// The number of messages of a partition that may be in this process. All partitions together have at most twice the
/// bytes of the credit, if all messages have the largest size, but not so few messages that this is slow. Members
/// with the same credit have the same number: see "equal credit" on this broker's page. Messages that cannot be given
/// out yet take memory, and the time for which the broker lets them be held.
fn max_ahead(core: &Core, options: &ConsumerOptions, ordering: Ordering) -> usize {
    let bytes = options.credit.bytes.get().saturating_mul(2) / ordering.partitions().max(1) as usize;
    MIN_AHEAD.max(bytes / core.capabilities.limits.payload)
}

/// The channel that is kept in `slot`, if it can still be used.
fn cached(slot: &Mutex<Option<Channel>>) -> Option<Channel> {
    let open = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
    open.filter(|channel| channel.status().connected())
}

fn keep(slot: &Mutex<Option<Channel>>, channel: Channel) -> Channel {
    slot.lock().unwrap_or_else(PoisonError::into_inner).insert(channel).clone()
}

/// Declares a queue of everything that is published to a topic from now on, for one listener alone.
async fn listen(connector: &Connector, topic: &TopicName, ordering: Ordering) -> Result<ListenerQueue> {
    let channel = connector.channel().await?;
    let exchange = names::exchange(topic);
    let binding = async {
        let queue = own_queue(&channel, &[("x-max-length", MAX_LAG), ("x-max-length-bytes", MAX_LAG_BYTES)]).await?;
        let bindings = (0..ordering.partitions()).map(|partition| {
            let (options, key) = (QueueBindOptions::default(), partition.to_string());
            let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
            answer(channel.queue_bind(queue, exchange, key.into(), options, FieldTable::default()))
        });
        try_join_all(bindings).await?;
        Ok(queue)
    };
    let name = binding.await.map_err(|error| connector.explain("consume", error).of(topic))?;
    Ok(ListenerQueue { channel, name })
}

/// Declares a queue that belongs to the channel's connection, and is deleted with its consumer.
async fn own_queue(channel: &Channel, limits: &[(&str, i64)]) -> lapin::Result<String> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    for (name, limit) in limits {
        arguments.insert((*name).into(), AMQPValue::LongLongInt(*limit));
    }
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(UNUSED_MS));
    let queue = answer(channel.queue_declare("".into(), options, arguments)).await?;
    Ok(queue.name().as_str().to_owned())
}

#[async_trait]
impl Claims for RabbitmqClaims {
    type Claim = QueueClaim;

    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<QueueClaim> {
        let Some(subscription) = &self.subscription else {
            let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
            let queue = match prepared.filter(|queue| queue.channel.status().connected()) {
                Some(prepared) => prepared,
                None => listen(self.seat.connector(), topic, self.ordering).await?,
            };
            let claimable = Claimable { topic: topic.clone(), queue: queue.name, partition: None, ahead, lock: None };
            return QueueClaim::consume(self.seat.connector().clone(), queue.channel, claimable).await;
        };
        let ahead = ahead.min(self.max_ahead);
        let queue = names::queue(topic, subscription, partition);
        let is_ordered = matches!(self.ordering, Ordering::ByKey { .. });
        if is_ordered && self.is_consumed(&queue).await? {
            return Err(busy(&queue));
        }
        let (connector, topic, locks) = (self.seat.connector().clone(), topic.clone(), self.seat.locks().clone());
        // If no caller waits for the claim any more, it is dropped, and so given up.
        uncancelled(async move {
            let opened = connector.channel_and_connection().await;
            let (channel, connection) = opened.map_err(|error| error.of(&topic))?;
            let lock = match is_ordered {
                true => Some(PartitionLock::take(&connector, connection, &channel, &locks, &queue).await?),
                false => None,
            };
            let claimable = Claimable { topic, queue, partition: Some(partition), ahead, lock };
            QueueClaim::consume(connector, channel, claimable).await
        })
        .await
    }

    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()> {
        let Some(subscription) = &self.subscription else { return Ok(()) };
        let channel = self.heartbeat_channel().await?;
        let (exchange, key) = (names::exchange(&self.heartbeat_topic), names::members(subscription));
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent = channel.basic_publish(exchange.into(), key.into(), options, &heartbeat, properties);
        match timeout(TELL_TIMEOUT, sent).await {
            Ok(sent) => sent.map(drop).map_err(|error| self.seat.connector().lost(TELL, error)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, TELL, "the heartbeat was not written in time")),
        }
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        let Some(subscription) = &self.subscription else { return std::future::pending().await };
        let open = self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut consumer = match open {
            Some(consumer) => consumer,
            None => {
                let consumer = self.consume_heartbeats(subscription).await?;
                self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner).insert(consumer).clone()
            }
        };
        match timeout(SILENCE, consumer.next()).await {
            Ok(Some(Ok(heartbeat))) => {
                // The first poll queues it. Whether it arrives does not matter.
                let _ = futures::poll!(std::pin::pin!(heartbeat.acker.ack(BasicAckOptions::default())));
                Ok(heartbeat.data.into())
            }
            ended => {
                *self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(match ended {
                    Err(_) => Error::new(ErrorKind::Timeout, HEAR, "not even this member is heard; listening anew"),
                    Ok(Some(Err(error))) => self.seat.connector().lost(HEAR, error),
                    _ if self.seat.connector().client().is_closed() => closed(HEAR),
                    _ => Error::new(ErrorKind::Disconnected, HEAR, "the broker ended the consumer"),
                })
            }
        }
    }
}
