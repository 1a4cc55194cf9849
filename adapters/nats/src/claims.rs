//! The members of subscriptions: the partitions that each claims, and the heartbeats between members.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_nats::Subscriber;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use partitura_adapter_kit::Claims;
use partitura_broker::{CorrectedClock, Error, ErrorKind, Partition, Result, SubscriptionName, TopicName};
use tokio::sync::Mutex;

use crate::claim::{Ahead, PullClaim, PushClaim, Target};
use crate::client::Connection;
use crate::core::Core;
use crate::topics::KnownTopic;
use crate::{error, names};

const TELL: &str = "tell the other members";
const HEAR: &str = "hear the other members";

/// The topics of a subscription.
pub(crate) type SubscribedTopics = HashMap<TopicName, Arc<KnownTopic>>;

fn find(topics: &SubscribedTopics, topic: &TopicName) -> Result<Arc<KnownTopic>> {
    let message = "the consumer did not join this topic";
    topics.get(topic).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, "claim a partition", message).of(topic))
}

/// A member of an ordered subscription.
pub(crate) struct OrderedClaims {
    core: Arc<Core>,
    topics: SubscribedTopics,
    subscription: SubscriptionName,
    /// The number of bytes of each partition that may be in this process, given out or not.
    bytes: usize,
    /// The subject of the members' heartbeats.
    heartbeats: String,
    receiving: Mutex<Option<Heartbeats>>,
}

/// The heartbeats that come during one connection.
struct Heartbeats {
    connection: Arc<Connection>,
    received: Subscriber,
}

impl OrderedClaims {
    /// Subscribes to heartbeats at once, so that no answer to the first heartbeat is missed.
    pub(crate) async fn join(
        core: Arc<Core>,
        topics: SubscribedTopics,
        subscription: SubscriptionName,
        bytes: usize,
    ) -> Result<Self> {
        let first = topics.keys().min().cloned();
        let first = first.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "consume", "no topic is named"))?;
        let heartbeats = names::heartbeats(core.topics.prefix(), &first, &subscription);
        let claims = Self { core, topics, subscription, bytes, heartbeats, receiving: Mutex::default() };
        let receiving = claims.subscribe().await?;
        receiving.connection.arrived("join a subscription").await?;
        *claims.receiving.lock().await = Some(receiving);
        Ok(claims)
    }

    async fn subscribe(&self) -> Result<Heartbeats> {
        let connection = self.core.consuming.connection(HEAR).await?;
        let subscribed = connection.client.subscribe(self.heartbeats.clone()).await;
        let received = subscribed.map_err(|e| error::disconnected(HEAR).because(e))?;
        Ok(Heartbeats { connection, received })
    }
}

#[async_trait]
impl Claims for OrderedClaims {
    type Claim = PushClaim;

    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<PushClaim> {
        let known = find(&self.topics, topic)?;
        let consumer = names::owned_consumer(&self.subscription, partition);
        let target = Target::Partition { consumer, partition };
        PushClaim::claim(self.core.clone(), known, &target, Ahead { messages: ahead, bytes: self.bytes }).await
    }

    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()> {
        let connection = self.core.consuming.connection(TELL).await?;
        let sent = connection.client.publish(self.heartbeats.clone(), heartbeat).await;
        sent.map_err(|error| error::disconnected(TELL).because(error))
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        let mut closed = self.core.closed();
        // Only one task of the member receives heartbeats, so no caller waits for this lock.
        let mut receiving = self.receiving.lock().await;
        let heartbeats = match receiving.take() {
            Some(heartbeats) => heartbeats,
            None => self.subscribe().await?,
        };
        let heartbeats = receiving.insert(heartbeats);
        let received = tokio::select! {
            biased;
            () = closed.wait() => return Err(error::closed(HEAR)),
            () = heartbeats.connection.lost() => None,
            received = heartbeats.received.next() => received,
        };
        if received.is_none() {
            *receiving = None;
        }
        received.map(|message| message.payload).ok_or_else(|| error::disconnected(HEAR))
    }

    fn clock(&self) -> Option<CorrectedClock> {
        Some(self.core.clock.clone())
    }
}

/// A member of a shared subscription.
pub(crate) struct SharedClaims {
    core: Arc<Core>,
    topics: SubscribedTopics,
    subscription: SubscriptionName,
    /// The number of bytes that may be in this process, given out or not.
    bytes: usize,
}

impl SharedClaims {
    pub(crate) fn new(core: Arc<Core>, topics: SubscribedTopics, subscription: SubscriptionName, bytes: usize) -> Self {
        Self { core, topics, subscription, bytes }
    }
}

#[async_trait]
impl Claims for SharedClaims {
    type Claim = PullClaim;

    async fn claim(&self, topic: &TopicName, _: Partition, ahead: usize) -> Result<PullClaim> {
        let known = find(&self.topics, topic)?;
        let ahead = Ahead { messages: ahead, bytes: self.bytes };
        PullClaim::claim(self.core.clone(), known, &self.subscription, ahead).await
    }

    async fn send_heartbeat(&self, _: Bytes) -> Result<()> {
        Ok(())
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        std::future::pending().await
    }

    fn clock(&self) -> Option<CorrectedClock> {
        Some(self.core.clock.clone())
    }
}

/// A listener to all of a stream.
pub(crate) struct BroadcastClaims {
    core: Arc<Core>,
    known: Arc<KnownTopic>,
    target: Target,
    bytes: usize,
    /// Claimed when the listener was made, since it gets all messages from then on.
    first: Mutex<Option<PushClaim>>,
}

impl BroadcastClaims {
    pub(crate) async fn new(core: Arc<Core>, known: Arc<KnownTopic>, ahead: Ahead) -> Result<Self> {
        let target = Target::Stream { consumer: names::new_listener() };
        let bytes = ahead.bytes;
        let first = PushClaim::claim(core.clone(), known.clone(), &target, ahead).await?;
        Ok(Self { core, known, target, bytes, first: Mutex::new(Some(first)) })
    }
}

#[async_trait]
impl Claims for BroadcastClaims {
    type Claim = PushClaim;

    async fn claim(&self, _: &TopicName, _: Partition, ahead: usize) -> Result<PushClaim> {
        if let Some(first) = self.first.lock().await.take() {
            return Ok(first);
        }
        let ahead = Ahead { messages: ahead, bytes: self.bytes };
        PushClaim::claim(self.core.clone(), self.known.clone(), &self.target, ahead).await
    }

    async fn send_heartbeat(&self, _: Bytes) -> Result<()> {
        Ok(())
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        std::future::pending().await
    }

    fn clock(&self) -> Option<CorrectedClock> {
        Some(self.core.clock.clone())
    }
}

impl fmt::Debug for OrderedClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderedClaims").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}

impl fmt::Debug for SharedClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedClaims").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}

impl fmt::Debug for BroadcastClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastClaims").field("topic", &self.known.topic.name).finish_non_exhaustive()
    }
}
