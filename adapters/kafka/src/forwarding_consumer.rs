use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{AckToken, Consumer, Event, Partition, Result};

use crate::delay::DelayForwarder;

/// A consumer that keeps the forwarders of delayed messages of its topics running.
#[derive(Debug)]
pub(crate) struct ForwardingConsumer {
    consumer: Box<dyn Consumer>,
    _forwarders: Vec<Arc<DelayForwarder>>,
}

impl ForwardingConsumer {
    pub(crate) fn new(consumer: Box<dyn Consumer>, forwarders: Vec<Arc<DelayForwarder>>) -> Self {
        Self { consumer, _forwarders: forwarders }
    }
}

#[async_trait]
impl Consumer for ForwardingConsumer {
    async fn next(&mut self) -> Result<Event> {
        self.consumer.next().await
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        self.consumer.settle(tokens);
    }

    async fn flush(&mut self) -> Result<()> {
        self.consumer.flush().await
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<()> {
        self.consumer.release(partitions).await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.consumer.close().await
    }
}
