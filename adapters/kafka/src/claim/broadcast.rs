use std::sync::Arc;

use async_trait::async_trait;
use partitura_adapter_kit::{Claim, Claimed};
use partitura_broker::{Partition, Result, TopicName};
use rdkafka::message::{BorrowedMessage, Message as _};

use crate::core::Core;
use crate::reader::{Reader, Start};
use crate::wire::{self, Stored};

/// The claim of a broadcast: a topic that is read without a group.
#[derive(Debug)]
pub(crate) struct BroadcastClaim(Reader<(Partition, Stored)>);

impl BroadcastClaim {
    /// Begins to read all messages from now on.
    pub(crate) async fn open(core: &Arc<Core>, topic: &TopicName) -> Result<Self> {
        let (route, named) = (core.topics.route(topic).await?, topic.clone());
        let partitions = route.partitions;
        let read = move |record: &BorrowedMessage<'_>| {
            let partition = if route.shared { 0 } else { u32::try_from(record.partition()).ok()? };
            Some((Partition(partition), wire::stored(&named, record)))
        };
        Ok(Self(Reader::open(core, topic.as_str(), 0..partitions, Start::Now, read).await?))
    }
}

#[async_trait]
impl Claim for BroadcastClaim {
    type Handle = ();

    async fn next(&mut self) -> Result<Vec<Claimed<()>>> {
        let messages = self.0.next().await?;
        let claimed = |(partition, Stored { message, is_repeated, .. })| Claimed {
            partition,
            message,
            redelivered: is_repeated,
            handle: (),
        };
        Ok(messages.into_iter().map(claimed).collect())
    }

    fn settle(&mut self, _handles: Vec<()>) {}

    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    async fn release(self) -> Result<()> {
        Ok(())
    }
}
