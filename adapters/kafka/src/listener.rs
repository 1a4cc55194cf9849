//! A broadcast: everything from now on, read without a group.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use partitura_adapter_kit::{Claim, Claimed, Claims};
use partitura_broker::{Message, Partition, Result, TopicName};
use rdkafka::message::{BorrowedMessage, Message as _};

use crate::core::Core;
use crate::tail::{From, Tail};
use crate::wire;

/// What a listener claims: all partitions of each topic.
#[derive(Debug)]
pub(crate) struct Listening {
    core: Arc<Core>,
    /// Opened before the consumer is given out, so that it misses nothing that is published then.
    opened: Mutex<HashMap<TopicName, Heard>>,
}

impl Listening {
    /// Begins to listen to these topics.
    pub(crate) async fn to(core: Arc<Core>, topics: &[TopicName]) -> Result<Self> {
        let mut opened = HashMap::new();
        for topic in topics {
            opened.insert(topic.clone(), open(&core, topic).await?);
        }
        Ok(Self { core, opened: Mutex::new(opened) })
    }
}

async fn open(core: &Arc<Core>, topic: &TopicName) -> Result<Heard> {
    let (route, named) = (core.route(topic).await?, topic.clone());
    let read = move |record: &BorrowedMessage<'_>| {
        let partition = if route.shared { 0 } else { u32::try_from(record.partition()).ok()? };
        Some((Partition(partition), wire::message(&named, record)))
    };
    let partitions = core.route(topic).await?.partitions;
    Ok(Heard(Tail::open(core, topic.as_str(), 0..partitions, From::Now, read).await?))
}

#[async_trait]
impl Claims for Listening {
    type Claim = Heard;

    async fn claim(&self, topic: &TopicName, _partition: Partition, _ahead: usize) -> Result<Heard> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
        match opened {
            Some(heard) => Ok(heard),
            None => open(&self.core, topic).await,
        }
    }

    async fn send_heartbeat(&self, _heartbeat: Bytes) -> Result<()> {
        Ok(())
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        std::future::pending().await
    }
}

/// A topic that is listened to.
#[derive(Debug)]
pub(crate) struct Heard(Tail<(Partition, Message)>);

#[async_trait]
impl Claim for Heard {
    type Handle = ();

    async fn next(&mut self) -> Result<Vec<Claimed<()>>> {
        let heard = self.0.next().await?;
        let claimed = |(partition, message)| Claimed { partition, message, redelivered: false, handle: () };
        Ok(heard.into_iter().map(claimed).collect())
    }

    fn settle(&mut self, _handles: Vec<()>) {}

    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    async fn release(self) -> Result<()> {
        Ok(())
    }
}
