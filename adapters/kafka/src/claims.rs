//! The claims of shared subscriptions and of broadcasts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use partitura_adapter_kit::Claims;
use partitura_broker::{Partition, Result, SubscriptionName, TopicName};

use crate::claim::{BroadcastClaim, SharedClaim};
use crate::core::Core;

/// The claims of a member of a shared subscription.
#[derive(Debug)]
pub(crate) struct SharedClaims {
    pub(crate) core: Arc<Core>,
    pub(crate) subscription: SubscriptionName,
    pub(crate) group: String,
}

#[async_trait]
impl Claims for SharedClaims {
    type Claim = SharedClaim;

    async fn claim(&self, topic: &TopicName, _partition: Partition, ahead: usize) -> Result<SharedClaim> {
        SharedClaim::open(&self.core, topic, &self.subscription, &self.group, ahead).await
    }

    async fn send_heartbeat(&self, _heartbeat: Bytes) -> Result<()> {
        Ok(())
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        std::future::pending().await
    }
}

/// The claims of a broadcast: all partitions of each topic.
#[derive(Debug)]
pub(crate) struct BroadcastClaims {
    core: Arc<Core>,
    /// Opened before the caller gets the consumer, so that it misses no message that is published from then on.
    opened: Mutex<HashMap<TopicName, BroadcastClaim>>,
}

impl BroadcastClaims {
    /// Begins to read these topics.
    pub(crate) async fn open(core: Arc<Core>, topics: &[TopicName]) -> Result<Self> {
        let mut opened = HashMap::new();
        for topic in topics {
            opened.insert(topic.clone(), BroadcastClaim::open(&core, topic).await?);
        }
        Ok(Self { core, opened: Mutex::new(opened) })
    }
}

#[async_trait]
impl Claims for BroadcastClaims {
    type Claim = BroadcastClaim;

    async fn claim(&self, topic: &TopicName, _partition: Partition, _ahead: usize) -> Result<BroadcastClaim> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
        match opened {
            Some(claim) => Ok(claim),
            None => BroadcastClaim::open(&self.core, topic).await,
        }
    }

    async fn send_heartbeat(&self, _heartbeat: Bytes) -> Result<()> {
        Ok(())
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        std::future::pending().await
    }
}
