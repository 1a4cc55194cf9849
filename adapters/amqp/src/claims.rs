//! The members of subscriptions: the partitions that each claims, and the heartbeats between members.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use partitura_adapter_kit::Claims;
use partitura_broker::{
    ConsumerOptions, Error, ErrorKind, InboxAddress, Ordering, Partition, Result, SubscriptionName, TopicName,
};
use tokio::task::JoinSet;

use crate::claim::QueueClaim;
use crate::client::{Connector, uncancelled};
use crate::core::Core;
use crate::management::{Kind, NewQueue, Request};
use crate::post::Post;
use crate::reader::{Attached, Reader, Source};
use crate::{delay, names, wire};

const CONSUME: &str = "consume";
const TELL: &str = "tell the other members";
const HEAR: &str = "hear the other members";

/// The number of messages that wait at the broker for a slow listener. Beyond it the oldest are dropped.
const MAX_LAG: u32 = 65_536;
/// The number of heartbeats of other members that wait at the broker.
const MAX_HEARTBEATS: u32 = 1_024;
/// The number of heartbeats that are fetched in advance.
const HEARTBEATS_AHEAD: usize = 256;
/// The number of messages of a partition that may be in this process in any case. More than this wait for a failing one
/// before they are parked.
const MIN_AHEAD: usize = 128;
/// The largest number of messages that an earlier owner can have had: what a member may hold of one partition.
const MAX_AHEAD: u64 = 4_096;

/// One member of one subscription, or a listener to a stream. It has a connection of its own.
#[derive(Debug)]
pub(crate) struct AmqpClaims {
    core: Arc<Core>,
    connector: Arc<Connector>,
    subscription: Option<SubscriptionName>,
    ordering: Ordering,
    /// The largest number of messages of a partition in this process.
    max_ahead: usize,
    /// The topic by which the members reach each other. It must be the same for all members: the first by name.
    heartbeat_topic: TopicName,
    /// The queues of a listener, from the moment when they were made until they are read.
    prepared: Mutex<HashMap<TopicName, Attached>>,
    heartbeats: tokio::sync::Mutex<Option<Reader>>,
    telling: Post,
    /// A consumer of a topic forwards the messages of the topic that fall due. Aborted when this is dropped.
    _forwarders: JoinSet<()>,
}

impl AmqpClaims {
    pub(crate) async fn open(core: Arc<Core>, options: &ConsumerOptions, ordering: Ordering) -> Result<Self> {
        let Some(heartbeat_topic) = options.topics.iter().min().cloned() else {
            return Err(Error::new(ErrorKind::InvalidArgument, CONSUME, "a consumer needs at least one topic"));
        };
        let connector = core.client.connector("consuming");
        connector.connection().await?;
        let max_ahead = max_ahead(&core, options, ordering);
        let mut prepared = HashMap::new();
        let mut forwarders = JoinSet::new();
        for topic in &options.topics {
            if options.subscription.is_none() {
                let attached = listen(core.clone(), connector.clone(), names::address(topic), MAX_LAG, max_ahead);
                prepared.insert(topic.clone(), attached.await?);
            }
            forwarders.spawn(delay::forward(core.clone(), connector.clone(), topic.clone()));
        }
        Ok(Self {
            subscription: options.subscription.clone(),
            prepared: Mutex::new(prepared),
            heartbeats: tokio::sync::Mutex::default(),
            telling: Post::new(core.publishing.clone()),
            _forwarders: forwarders,
            connector,
            ordering,
            max_ahead,
            heartbeat_topic,
            core,
        })
    }

    async fn claim_listener(&self, topic: &TopicName, ahead: usize) -> Result<QueueClaim> {
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
        let attached = match prepared {
            Some(prepared) => prepared,
            None => {
                let (core, connector) = (self.core.clone(), self.connector.clone());
                listen(core, connector, names::address(topic), MAX_LAG, ahead).await?
            }
        };
        Ok(QueueClaim::new(topic.clone(), None, attached.read(), 0))
    }
}

/// The number of messages of a partition that may be in this process. All partitions together have at most twice the
/// bytes of the credit, if all messages have the largest size, but not so few messages that this is slow.
fn max_ahead(core: &Core, options: &ConsumerOptions, ordering: Ordering) -> usize {
    let bytes = options.credit.bytes.get().saturating_mul(2) / ordering.partitions().max(1) as usize;
    MIN_AHEAD.max(bytes / core.capabilities.limits.payload)
}

/// Makes and takes a queue of everything that is published to an address from now on, for this process alone.
async fn listen(
    core: Arc<Core>,
    connector: Arc<Connector>,
    address: String,
    limit: u32,
    ahead: usize,
) -> Result<Attached> {
    let queue = names::own_queue(&address, &InboxAddress::secret());
    let new = NewQueue { name: queue.clone(), address: address.clone(), filter: None, kind: Kind::Own(limit) };
    core.management.ask(CONSUME, &address, Request::create_queue(&new)).await?;
    let source = Source { address, queue, ahead, marks: false };
    uncancelled(Attached::attach(connector, CONSUME, source)).await
}

/// Claims a queue of a subscription.
async fn claim(
    core: Arc<Core>,
    connector: Arc<Connector>,
    topic: TopicName,
    partition: Partition,
    source: Source,
) -> Result<QueueClaim> {
    let queue = source.queue.clone();
    let is_shared = source.marks;
    let attached = Attached::attach(connector, CONSUME, source).await?;
    // No other can have the queue now, so that what is in it is all that an earlier owner can have had.
    let doubted = if is_shared {
        0
    } else {
        let count = core.management.ask(CONSUME, &queue, Request::message_count(&queue)).await?;
        count.as_u64().unwrap_or(MAX_AHEAD).min(MAX_AHEAD)
    };
    let doubted = usize::try_from(doubted).unwrap_or(usize::MAX);
    Ok(QueueClaim::new(topic, Some(partition), attached.read(), doubted))
}

#[async_trait]
impl Claims for AmqpClaims {
    type Claim = QueueClaim;

    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<QueueClaim> {
        let ahead = ahead.min(self.max_ahead);
        let Some(subscription) = &self.subscription else { return self.claim_listener(topic, ahead).await };
        let source = Source {
            address: names::address(topic),
            queue: names::queue(topic, subscription, partition),
            ahead,
            marks: self.ordering == Ordering::Shared,
        };
        // If no caller waits for the claim any more, it is dropped, and so given up.
        uncancelled(claim(self.core.clone(), self.connector.clone(), topic.clone(), partition, source)).await
    }

    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()> {
        let Some(subscription) = &self.subscription else { return Ok(()) };
        let to = names::members(&self.heartbeat_topic, subscription);
        self.telling.send(TELL, vec![wire::brief(to, &heartbeat)]).await
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        let Some(subscription) = &self.subscription else { return std::future::pending().await };
        let mut heartbeats = self.heartbeats.lock().await;
        let reader = match &mut *heartbeats {
            Some(reader) => reader,
            none => {
                let address = names::members(&self.heartbeat_topic, subscription);
                let (core, connector) = (self.core.clone(), self.connector.clone());
                none.insert(listen(core, connector, address, MAX_HEARTBEATS, HEARTBEATS_AHEAD).await?.read())
            }
        };
        match reader.next(1).await {
            Ok(mut fetched) => {
                let Some(heartbeat) = fetched.pop() else { return Err(crate::error::closed(HEAR)) };
                reader.settle(vec![heartbeat.info]);
                Ok(wire::payload(heartbeat.message.body))
            }
            Err(error) => {
                *heartbeats = None;
                Err(error)
            }
        }
    }
}
