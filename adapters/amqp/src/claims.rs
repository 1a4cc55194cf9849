//! The members of subscriptions: the partitions that each claims, and the heartbeats between members.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use partitura_adapter_kit::Claims;
use partitura_broker::{
    ConsumerOptions, CorrectedClock, Error, ErrorKind, Ordering, Partition, Result, SubscriptionName, TopicName,
};
use tokio::sync::watch;

use crate::claim::QueueClaim;
use crate::client::{Connector, uncancelled};
use crate::core::Core;
use crate::heartbeats::Heartbeats;
use crate::post::Post;
use crate::profile::Source;
use crate::reader::Attached;
use crate::{delay, wire};

const CONSUME: &str = "consume";
const TELL: &str = "tell the other members";

/// The number of messages that wait at the broker for a slow listener. Beyond it the oldest are dropped.
const MAX_LAG: u32 = 65_536;
/// The number of heartbeats of other members that wait at the broker.
const MAX_HEARTBEATS: u32 = 1_024;
/// The number of messages of a partition that may be in this process in any case. More than this wait for a failing one
/// before they are parked.
const MIN_AHEAD: usize = 128;

/// One member of one subscription, or a listener to a stream. It has a connection of its own.
#[derive(Debug)]
pub(crate) struct AmqpClaims {
    core: Arc<Core>,
    connector: Arc<Connector>,
    subscription: Option<SubscriptionName>,
    /// The largest number of messages of a partition in this process.
    max_ahead: usize,
    /// The topic by which the members reach each other. It must be the same for all members: the first by name.
    heartbeat_topic: TopicName,
    /// The queues of a listener, from the moment when they were made until they are read.
    prepared: Mutex<HashMap<TopicName, Attached>>,
    heartbeats: tokio::sync::Mutex<Option<Heartbeats>>,
    telling: Post,
    /// A consumer of a topic forwards the messages of the topic that fall due, until this is dropped.
    _forwarding: watch::Sender<()>,
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
        let (forwarding, stop) = watch::channel(());
        for topic in &options.topics {
            if options.subscription.is_none() {
                let attached = listen(core.clone(), connector.clone(), topic.clone(), max_ahead);
                prepared.insert(topic.clone(), attached.await?);
            }
            if let Some(due) = core.profile.due(topic) {
                tokio::spawn(delay::forward(core.clone(), connector.clone(), topic.clone(), due, stop.clone()));
            }
        }
        Ok(Self {
            subscription: options.subscription.clone(),
            prepared: Mutex::new(prepared),
            heartbeats: tokio::sync::Mutex::default(),
            telling: Post::new(core.publishing.clone()),
            _forwarding: forwarding,
            connector,
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
                listen(core, connector, topic.clone(), ahead).await?
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

/// Takes a place for everything that is published to a topic from now on, for this process alone.
async fn listen(core: Arc<Core>, connector: Arc<Connector>, topic: TopicName, ahead: usize) -> Result<Attached> {
    let source = core.profile.listen(&topic, MAX_LAG).await?;
    uncancelled(Attached::attach(connector, CONSUME, source, ahead)).await
}

/// Claims a queue of a subscription.
async fn claim(
    core: Arc<Core>,
    connector: Arc<Connector>,
    topic: TopicName,
    partition: Partition,
    queue: Source,
    ahead: usize,
) -> Result<QueueClaim> {
    let attached = Attached::attach(connector, CONSUME, queue.clone(), ahead).await?;
    let doubted = if queue.marks { 0 } else { core.profile.doubted(&queue).await? };
    Ok(QueueClaim::new(topic, Some(partition), attached.read(), doubted))
}

#[async_trait]
impl Claims for AmqpClaims {
    type Claim = QueueClaim;

    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<QueueClaim> {
        let ahead = ahead.min(self.max_ahead);
        let Some(subscription) = &self.subscription else { return self.claim_listener(topic, ahead).await };
        let kept = self.core.topics.get(topic, CONSUME).await?;
        let queue = self.core.profile.queue(&kept, subscription, partition);
        // If no caller waits for the claim any more, it is dropped, and so given up.
        let (core, connector) = (self.core.clone(), self.connector.clone());
        uncancelled(claim(core, connector, topic.clone(), partition, queue, ahead)).await
    }

    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()> {
        let Some(subscription) = &self.subscription else { return Ok(()) };
        let route = self.core.profile.heartbeat(&self.heartbeat_topic, subscription);
        self.telling.send(TELL, vec![(route.link.clone(), wire::brief(route, &heartbeat))]).await
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        let Some(subscription) = &self.subscription else { return std::future::pending().await };
        let mut heartbeats = self.heartbeats.lock().await;
        let hearing = match &mut *heartbeats {
            Some(hearing) => hearing,
            none => {
                let profile = &self.core.profile;
                let hearing = profile.hearing(&self.heartbeat_topic, subscription, MAX_HEARTBEATS).await?;
                none.insert(Heartbeats::open(self.connector.clone(), hearing).await?)
            }
        };
        let heard = hearing.next().await;
        if heard.is_err() {
            *heartbeats = None;
        }
        heard
    }

    fn clock(&self) -> Option<CorrectedClock> {
        self.core.profile.is_early().then(|| self.core.clock.clone())
    }
}
