//! One member of a subscription, as the consumer's machinery sees it: what it claims, and how it meets the others.

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

use crate::link::Link;
use crate::nats::Core;
use crate::owned::{Of, Owned};
use crate::prefetch::Ahead;
use crate::shared::Shared;
use crate::topics::Known;
use crate::{error, names};

/// The topics of a subscription.
pub(crate) type Covered = HashMap<TopicName, Arc<Known>>;

fn find(topics: &Covered, topic: &TopicName) -> Result<Arc<Known>> {
    let message = "the consumer did not join this topic";
    topics.get(topic).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, "claim a partition", message).of(topic))
}

/// A member of an ordered subscription.
pub(crate) struct Owners {
    core: Arc<Core>,
    topics: Covered,
    subscription: SubscriptionName,
    /// How many bytes of each partition may be here, given out or not.
    bytes: usize,
    /// Where the members tell each other that they are there.
    meeting: String,
    hearing: Mutex<Option<Hearing>>,
}

/// For as long as one link lasts.
struct Hearing {
    link: Arc<Link>,
    beats: Subscriber,
}

impl Owners {
    /// Begins to listen at once, so that nobody's answer to the first word is missed.
    pub(crate) async fn join(
        core: Arc<Core>,
        topics: Covered,
        subscription: SubscriptionName,
        bytes: usize,
    ) -> Result<Self> {
        let first = topics.keys().min().cloned();
        let first = first.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "consume", "no topic is named"))?;
        let meeting = names::members(core.topics.prefix(), &first, &subscription);
        let owners = Self { core, topics, subscription, bytes, meeting, hearing: Mutex::default() };
        let hearing = owners.listen().await?;
        hearing.link.arrived("join a subscription").await?;
        *owners.hearing.lock().await = Some(hearing);
        Ok(owners)
    }

    async fn listen(&self) -> Result<Hearing> {
        let link = self.core.consuming.link("hear the other members").await?;
        let subscribed = link.client.subscribe(self.meeting.clone()).await;
        let beats = subscribed.map_err(|e| error::disconnected("hear the other members").because(e))?;
        Ok(Hearing { link, beats })
    }
}

#[async_trait]
impl Claims for Owners {
    type Claim = Owned;

    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<Owned> {
        let known = find(&self.topics, topic)?;
        let of = Of::Partition(names::owned_consumer(&self.subscription, partition), partition);
        Owned::claim(self.core.clone(), known, &of, Ahead { messages: ahead, bytes: self.bytes }).await
    }

    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()> {
        let link = self.core.consuming.link("tell the other members").await?;
        let said = link.client.publish(self.meeting.clone(), heartbeat).await;
        said.map_err(|error| error::disconnected("tell the other members").because(error))
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        let mut closed = self.core.closed();
        // Only the keeper listens, and nobody waits for this lock.
        let mut hearing = self.hearing.lock().await;
        let here = match hearing.take() {
            Some(here) => here,
            None => self.listen().await?,
        };
        let here = hearing.insert(here);
        let heard = tokio::select! {
            biased;
            () = closed.wait() => return Err(error::closed("hear the other members")),
            () = here.link.lost() => None,
            heard = here.beats.next() => heard,
        };
        if heard.is_none() {
            *hearing = None;
        }
        heard.map(|message| message.payload).ok_or_else(|| error::disconnected("hear the other members"))
    }

    fn clock(&self) -> Option<CorrectedClock> {
        Some(self.core.clock.clone())
    }
}

/// A member of a shared subscription.
pub(crate) struct Competitors {
    core: Arc<Core>,
    topics: Covered,
    subscription: SubscriptionName,
    /// How many bytes may be here, given out or not.
    bytes: usize,
}

impl Competitors {
    pub(crate) fn new(core: Arc<Core>, topics: Covered, subscription: SubscriptionName, bytes: usize) -> Self {
        Self { core, topics, subscription, bytes }
    }
}

#[async_trait]
impl Claims for Competitors {
    type Claim = Shared;

    async fn claim(&self, topic: &TopicName, _: Partition, ahead: usize) -> Result<Shared> {
        let known = find(&self.topics, topic)?;
        let ahead = Ahead { messages: ahead, bytes: self.bytes };
        Shared::claim(self.core.clone(), known, &self.subscription, ahead).await
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

/// One who listens to all of a stream.
pub(crate) struct Listener {
    core: Arc<Core>,
    known: Arc<Known>,
    of: Of,
    bytes: usize,
    /// Claimed when the listener was made: everything from then on is for it.
    first: Mutex<Option<Owned>>,
}

impl Listener {
    pub(crate) async fn new(core: Arc<Core>, known: Arc<Known>, ahead: Ahead) -> Result<Self> {
        let of = Of::Stream(format!("listener-{}", uuid::Uuid::now_v7().simple()));
        let bytes = ahead.bytes;
        let first = Owned::claim(core.clone(), known.clone(), &of, ahead).await?;
        Ok(Self { core, known, of, bytes, first: Mutex::new(Some(first)) })
    }
}

#[async_trait]
impl Claims for Listener {
    type Claim = Owned;

    async fn claim(&self, _: &TopicName, _: Partition, ahead: usize) -> Result<Owned> {
        if let Some(first) = self.first.lock().await.take() {
            return Ok(first);
        }
        let ahead = Ahead { messages: ahead, bytes: self.bytes };
        Owned::claim(self.core.clone(), self.known.clone(), &self.of, ahead).await
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

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owners").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}

impl fmt::Debug for Competitors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Competitors").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("topic", &self.known.topic.name).finish_non_exhaustive()
    }
}
