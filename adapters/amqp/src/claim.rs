use async_trait::async_trait;
use fe2o3_amqp::link::delivery::DeliveryInfo;
use partitura_adapter_kit::{Claim, Claimed};
use partitura_broker::{Partition, Result, TopicName};

use crate::error::closed;
use crate::reader::{Fetched, Reader};
use crate::wire;

/// The largest number of messages that are given out at once.
const MAX_BATCH: usize = 256;

/// A queue that this process reads.
#[derive(Debug)]
pub(crate) struct QueueClaim {
    topic: TopicName,
    /// `None`: each message says it.
    partition: Option<Partition>,
    /// `None` once it was given up.
    reader: Option<Reader>,
    /// The number of messages to come that may have been delivered before.
    doubted: usize,
}

impl QueueClaim {
    /// `doubted` of the messages that come first may have been delivered to an earlier owner. The broker says
    /// it only of messages whose reader died.
    pub(crate) fn new(topic: TopicName, partition: Option<Partition>, reader: Reader, doubted: usize) -> Self {
        Self { topic, partition, reader: Some(reader), doubted }
    }

    fn claimed(&mut self, Fetched { message, failures, info, .. }: Fetched) -> Claimed<DeliveryInfo> {
        let wire::Received { partition, message, is_repeated } = wire::received(self.topic.clone(), message);
        let redelivered = is_repeated || failures > 0 || self.doubted > 0;
        self.doubted = self.doubted.saturating_sub(1);
        Claimed { partition: self.partition.unwrap_or(partition), message, redelivered, handle: info }
    }
}

#[async_trait]
impl Claim for QueueClaim {
    type Handle = DeliveryInfo;

    async fn next(&mut self) -> Result<Vec<Claimed<DeliveryInfo>>> {
        let Some(reader) = &mut self.reader else { return Err(closed("consume")) };
        let fetched = reader.next(MAX_BATCH).await?;
        Ok(fetched.into_iter().map(|fetched| self.claimed(fetched)).collect())
    }

    fn settle(&mut self, handles: Vec<DeliveryInfo>) {
        if let Some(reader) = &self.reader {
            reader.settle(handles);
        }
    }

    async fn flush(&mut self) -> Result<()> {
        match &self.reader {
            Some(reader) => reader.flush().await,
            None => Err(closed("flush settlements")),
        }
    }

    async fn release(mut self) -> Result<()> {
        match self.reader.take() {
            Some(reader) => reader.release().await,
            None => Ok(()),
        }
    }
}
