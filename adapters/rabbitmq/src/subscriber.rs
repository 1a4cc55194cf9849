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

use crate::claim::{Held, Lock, QueueClaim, busy};
use crate::core::Core;
use crate::error::closed;
use crate::forwarder::forward;
use crate::link::{Link, answer, open_channel, uncancelled};
use crate::names;
use crate::salvage::Salvage;

/// How much waits at the broker for somebody who listens and is slow; then the oldest is dropped.
const LAG: i64 = 65_536;
const LAG_BYTES: i64 = 64 << 20;
/// How many words of other members wait.
const WORDS: i64 = 1_024;
const WORDS_AHEAD: u16 = 256;
/// How long a word may wait to be written to the connection.
const SAID_WITHIN: Duration = Duration::from_secs(2);

/// How many messages of a partition may be at hand in any case: more than wait behind one that fails before they are parked.
const AHEAD: usize = 128;

/// One member of one subscription, or one who listens to a stream. Its connection is its own: the locks of its partitions
/// belong to it.
#[derive(Debug)]
pub(crate) struct Subscriber {
    core: Arc<Core>,
    link: Arc<Link>,
    subscription: Option<SubscriptionName>,
    ordering: Ordering,
    /// How many messages of a partition are at hand, at most.
    ahead: usize,
    /// Where the members meet: the first of the topics by name, for it has to be the same for all of them.
    meeting: TopicName,
    locks: Held,
    /// Of a listener: its queues, bound before it was given out, until they are consumed.
    prepared: Mutex<HashMap<TopicName, (Channel, String)>>,
    looking: Mutex<Option<Channel>>,
    hearing: Mutex<Option<Consumer>>,
    saying: Mutex<Option<Channel>>,
    /// Who consumes a topic forwards what falls due of it. Aborted when this is dropped.
    _forwarders: JoinSet<()>,
}

impl Subscriber {
    pub(crate) async fn open(
        core: Arc<Core>,
        options: &ConsumerOptions,
        meeting: TopicName,
        ordering: Ordering,
    ) -> Result<Self> {
        let link = core.dial.link("consuming");
        link.connection().await?;
        let mut prepared = HashMap::new();
        let mut forwarders = JoinSet::new();
        for topic in &options.topics {
            if options.subscription.is_none() {
                prepared.insert(topic.clone(), listen(&link, topic, ordering).await?);
            }
            forwarders.spawn(forward(core.clone(), link.clone(), topic.clone()));
        }
        Salvage::start(&core);
        Ok(Self {
            subscription: options.subscription.clone(),
            locks: Held::default(),
            prepared: Mutex::new(prepared),
            looking: Mutex::default(),
            hearing: Mutex::default(),
            saying: Mutex::default(),
            _forwarders: forwarders,
            link,
            ordering,
            ahead: most_ahead(&core, options, ordering),
            meeting,
            core,
        })
    }

    /// Whether somebody consumes a partition's queue. Asked first, since asking for a lock that is taken costs the channel.
    async fn is_consumed(&self, queue: &str) -> Result<bool> {
        let open = cached(&self.looking);
        let channel = match open {
            Some(channel) => channel,
            None => keep(&self.looking, self.link.channel().await?),
        };
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let found = answer(channel.queue_declare(queue.into(), options, FieldTable::default())).await;
        Ok(found.map_err(|error| self.link.explain(error, "consume").of(queue))?.consumer_count() > 0)
    }

    /// A queue of what the members say.
    async fn attend(&self, subscription: &SubscriptionName) -> Result<Consumer> {
        let channel = self.link.channel().await?;
        let (exchange, key) = (names::exchange(&self.meeting), names::members(subscription));
        let attending = async {
            let queue = own_queue(&channel, &[("x-max-length", WORDS)]).await?;
            let options = QueueBindOptions::default();
            let (name, none) = (queue.as_str().into(), FieldTable::default());
            answer(channel.queue_bind(name, exchange.into(), key.into(), options, none)).await?;
            answer(channel.basic_qos(WORDS_AHEAD, BasicQosOptions::default())).await?;
            let options = BasicConsumeOptions::default();
            answer(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default())).await
        };
        attending.await.map_err(|error| self.link.lost(error, "hear the other members").of(subscription))
    }

    /// The channel to speak on: of the connection that publishes, since the broker may stop reading from a connection
    /// that does, and would not hear settlements then.
    async fn speech(&self) -> Result<Channel> {
        let connection = self.core.publishing.connection().await?;
        if connection.status().blocked() {
            let message = "the broker takes no messages, for its memory or its disk is short";
            return Err(Error::new(ErrorKind::Throttled, "tell the other members", message));
        }
        match cached(&self.saying) {
            Some(channel) => Ok(channel),
            None => Ok(keep(&self.saying, self.core.publishing.channel().await?)),
        }
    }
}

/// How many messages of a partition may be at hand: all partitions together twice the bytes of the credit, were all messages as
/// large as they may be; but not so few that it is felt. The same for all members whose credit is: see "equal credit" on this
/// broker's page. What is at hand and cannot be given out takes memory, and the time for which the broker lets it be held.
fn most_ahead(core: &Core, options: &ConsumerOptions, ordering: Ordering) -> usize {
    let bytes = options.credit.bytes.get().saturating_mul(2) / ordering.partitions().max(1) as usize;
    AHEAD.max(bytes / core.capabilities.limits.payload)
}

/// The channel that is kept there, if it can still be used.
fn cached(place: &Mutex<Option<Channel>>) -> Option<Channel> {
    let open = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
    open.filter(|channel| channel.status().connected())
}

fn keep(place: &Mutex<Option<Channel>>, channel: Channel) -> Channel {
    place.lock().unwrap_or_else(PoisonError::into_inner).insert(channel).clone()
}

/// A queue of everything that is published to a topic from now on, for one listener alone, and its channel.
async fn listen(link: &Link, topic: &TopicName, ordering: Ordering) -> Result<(Channel, String)> {
    let channel = link.channel().await?;
    let exchange = names::exchange(topic);
    let binding = async {
        let queue = own_queue(&channel, &[("x-max-length", LAG), ("x-max-length-bytes", LAG_BYTES)]).await?;
        let bindings = (0..ordering.partitions()).map(|partition| {
            let (options, key) = (QueueBindOptions::default(), partition.to_string());
            let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
            answer(channel.queue_bind(queue, exchange, key.into(), options, FieldTable::default()))
        });
        try_join_all(bindings).await?;
        Ok(queue)
    };
    let queue = binding.await.map_err(|error| link.explain(error, "consume").of(topic))?;
    Ok((channel, queue))
}

/// A queue that belongs to the channel's connection, and is deleted with its consumer.
async fn own_queue(channel: &Channel, limits: &[(&str, i64)]) -> lapin::Result<String> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    for (name, limit) in limits {
        arguments.insert((*name).into(), AMQPValue::LongLongInt(*limit));
    }
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let queue = answer(channel.queue_declare("".into(), options, arguments)).await?;
    Ok(queue.name().as_str().to_owned())
}

#[async_trait]
impl Claims for Subscriber {
    type Claim = QueueClaim;

    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<QueueClaim> {
        let Some(subscription) = &self.subscription else {
            let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
            let (channel, queue) = match prepared.filter(|(channel, _)| channel.status().connected()) {
                Some(prepared) => prepared,
                None => listen(&self.link, topic, self.ordering).await?,
            };
            return QueueClaim::consume(self.link.clone(), channel, topic.clone(), queue, None, ahead, None).await;
        };
        let ahead = ahead.min(self.ahead);
        let queue = names::queue(topic, subscription, partition);
        let ordered = matches!(self.ordering, Ordering::ByKey { .. });
        if ordered && self.is_consumed(&queue).await? {
            return Err(busy(&queue));
        }
        let (link, topic, locks) = (self.link.clone(), topic.clone(), self.locks.clone());
        // A claim that nobody waits for any more is dropped when it is there, and thereby given up.
        uncancelled(async move {
            let connection = link.connection().await?;
            let channel = open_channel(&connection).await.map_err(|error| link.explain(error, "consume").of(&topic))?;
            let lock = match ordered {
                true => Some(Lock::take(&link, connection, &channel, &locks, &queue).await?),
                false => None,
            };
            QueueClaim::consume(link, channel, topic, queue, Some(partition), ahead, lock).await
        })
        .await
    }

    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()> {
        let Some(subscription) = &self.subscription else { return Ok(()) };
        let channel = self.speech().await?;
        let (exchange, key) = (names::exchange(&self.meeting), names::members(subscription));
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let said = channel.basic_publish(exchange.into(), key.into(), options, &heartbeat, properties);
        match timeout(SAID_WITHIN, said).await {
            Ok(said) => said.map(drop).map_err(|error| self.link.lost(error, "tell the other members")),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "tell the other members", "the connection takes nothing")),
        }
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        let Some(subscription) = &self.subscription else { return std::future::pending().await };
        let open = self.hearing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut consumer = match open {
            Some(consumer) => consumer,
            None => {
                let consumer = self.attend(subscription).await?;
                self.hearing.lock().unwrap_or_else(PoisonError::into_inner).insert(consumer).clone()
            }
        };
        match consumer.next().await {
            Some(Ok(word)) => {
                // Queued at once; whether it arrives does not matter.
                let _ = futures::poll!(std::pin::pin!(word.acker.ack(BasicAckOptions::default())));
                Ok(word.data.into())
            }
            ended => {
                *self.hearing.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(match ended {
                    Some(Err(error)) => self.link.lost(error, "hear the other members"),
                    _ if self.link.dial().is_closed() => closed("hear the other members"),
                    _ => Error::new(ErrorKind::Disconnected, "hear the other members", "the broker ended it"),
                })
            }
        }
    }
}
