use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{AckToken, Consumer, Event, Partition, Result};

use crate::delay::Timers;

/// A consumer that keeps the timers of its topics running.
#[derive(Debug)]
pub(crate) struct WithTimers {
    consumer: Box<dyn Consumer>,
    _timers: Vec<Arc<Timers>>,
}

impl WithTimers {
    pub(crate) fn new(consumer: Box<dyn Consumer>, timers: Vec<Arc<Timers>>) -> Self {
        Self { consumer, _timers: timers }
    }
}

#[async_trait]
impl Consumer for WithTimers {
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
