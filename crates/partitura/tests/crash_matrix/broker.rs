//! A broker, and a store, in which a fuse is set: they do what those below do, with points around every effect.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{
    AckToken, Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delayed, Entry, Event, Inbox,
    InboxAddress, Message, Partition, Producer, ProducerOptions, Put, Receipt, Result, ScanRange, Space, TopicName,
    Topology, Transactions, Unit, Version,
};
use partitura_engine::Store;

use crate::flaw::Flaw;
use crate::fuse::Fuse;

#[derive(Debug)]
pub(crate) struct FusedBroker {
    inner: Arc<dyn Broker>,
    fuse: Fuse,
    flaw: Option<Flaw>,
    capabilities: Capabilities,
}

impl FusedBroker {
    /// All of `inner`.
    pub(crate) fn new(inner: Arc<dyn Broker>, fuse: Fuse, flaw: Option<Flaw>) -> Self {
        let capabilities = inner.capabilities().clone();
        Self { inner, fuse, flaw, capabilities }
    }

    /// `inner` as one of those brokers that have no transactions.
    pub(crate) fn without_transactions(inner: Arc<dyn Broker>, fuse: Fuse) -> Self {
        let mut broker = Self::new(inner, fuse, None);
        broker.capabilities.supports.transactions = false;
        broker
    }

    fn inner_transactions(&self) -> &dyn Transactions {
        self.inner.transactions().expect("the engine asked whether there are any")
    }
}

#[async_trait]
impl Broker for FusedBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn clock(&self) -> CorrectedClock {
        self.inner.clock()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.fuse.around("declare", self.inner.declare(topology)).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        let inner = self.fuse.around("open a producer", self.inner.producer(options)).await?;
        Ok(Box::new(FusedProducer { inner, fuse: self.fuse.clone() }))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        let inner = self.fuse.around("join", self.inner.consumer(options)).await?;
        Ok(Box::new(FusedConsumer { inner, fuse: self.fuse.clone(), settled: false }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        let inner = self.fuse.around("open an inbox", self.inner.inbox()).await?;
        Ok(Box::new(FusedInbox { inner, fuse: self.fuse.clone() }))
    }

    fn has_subscribers(&self, topic: &TopicName) -> bool {
        self.inner.has_subscribers(topic)
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        self.capabilities.supports.transactions.then_some(self)
    }

    async fn close(&self) -> Result<()> {
        self.fuse.around("close", self.inner.close()).await
    }
}

#[async_trait]
impl Transactions for FusedBroker {
    async fn commit(&self, units: Vec<Unit>) -> Vec<Result<()>> {
        let commits = match self.flaw {
            None => vec![units],
            Some(flaw) => flaw.split(units),
        };
        let mut results = Vec::new();
        for units in commits {
            results = self.fuse.around("commit", self.inner_transactions().commit(units)).await;
        }
        results
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.inner_transactions().get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.inner_transactions().scan(range, limit).await
    }
}

#[derive(Debug)]
struct FusedProducer {
    inner: Box<dyn Producer>,
    fuse: Fuse,
}

#[async_trait]
impl Producer for FusedProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        if batch.len() > 1 {
            let half = || self.inner.publish(batch[..batch.len() / 2].to_vec());
            self.fuse.halfway("publish", half);
        }
        self.fuse.around("publish", self.inner.publish(batch)).await
    }

    /// Nothing rests on it, and when it is asked for is nobody's promise: no points.
    async fn cancel(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        self.inner.cancel(delayed).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        self.fuse.around("reply", self.inner.reply(replies)).await
    }
}

#[derive(Debug)]
struct FusedConsumer {
    inner: Box<dyn Consumer>,
    fuse: Fuse,
    /// Something was settled and may not be stored yet.
    settled: bool,
}

#[async_trait]
impl Consumer for FusedConsumer {
    async fn next(&mut self) -> Result<Event> {
        if std::mem::take(&mut self.settled) {
            self.fuse.once_done("settlements were stored", || self.inner.flush());
        }
        let event = self.inner.next().await?;
        if matches!(event, Event::Deliveries(_)) {
            self.fuse.after("deliveries arrived");
        }
        Ok(event)
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        self.fuse.before("settle");
        self.inner.settle(tokens);
        self.settled = true;
        self.fuse.after("settle");
    }

    async fn flush(&mut self) -> Result<()> {
        self.fuse.around("flush", self.inner.flush()).await
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<()> {
        self.fuse.around("release", self.inner.release(partitions)).await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.fuse.around("leave", self.inner.close()).await
    }
}

#[derive(Debug)]
struct FusedInbox {
    inner: Box<dyn Inbox>,
    fuse: Fuse,
}

#[async_trait]
impl Inbox for FusedInbox {
    fn address(&self) -> &InboxAddress {
        self.inner.address()
    }

    async fn next(&mut self) -> Result<Message> {
        let reply = self.inner.next().await?;
        self.fuse.after("a reply arrived");
        Ok(reply)
    }
}

#[derive(Debug)]
pub(crate) struct FusedStore {
    inner: Arc<dyn Store>,
    fuse: Fuse,
    flaw: Option<Flaw>,
}

impl FusedStore {
    pub(crate) fn new(inner: Arc<dyn Store>, fuse: Fuse, flaw: Option<Flaw>) -> Self {
        Self { inner, fuse, flaw }
    }
}

#[async_trait]
impl Store for FusedStore {
    async fn write(&self, mut groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        self.flaw.into_iter().for_each(|flaw| flaw.forget(&mut groups));
        if groups.len() > 1 {
            let half = || self.inner.write(groups[..groups.len() / 2].to_vec());
            self.fuse.halfway("write", half);
        }
        self.fuse.around("write", self.inner.write(groups)).await
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.inner.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.inner.scan(range, limit).await
    }
}
