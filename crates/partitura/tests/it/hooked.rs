//! The embedded broker with something between it and the engine, which a test decides.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{
    AckToken, Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delayed, Delivery, Entry, Error,
    ErrorKind, Event, Inbox, InboxAddress, Message, Partition, Producer, ProducerOptions, Receipt, Result, ScanRange,
    Space, TopicName, Topology, Transactions, Unit, Version,
};

/// Events between the engine and the broker. Each method does nothing unless a test says otherwise.
#[async_trait]
pub(crate) trait Hooks: Debug + Send + Sync {
    /// Before anything is published, replied or committed. Of an error nothing is sent; while it waits, nothing is
    /// either.
    async fn before_sending(&self) -> Result<()> {
        Ok(())
    }

    /// Why one message is not published.
    fn refuses(&self, _message: &Message) -> Option<ErrorKind> {
        None
    }

    /// After messages were published. While it waits, the engine does not know that they were.
    async fn after_publishing(&self, _sent: &[Message]) {}

    fn delivered(&self, _delivery: &Delivery) {}

    fn settled(&self, _token: AckToken) {}
}

/// Changes nothing.
#[derive(Debug)]
pub(crate) struct Nothing;

impl Hooks for Nothing {}

/// One process' view of a broker.
#[derive(Debug)]
pub(crate) struct Hooked {
    inner: Arc<dyn Broker>,
    hooks: Arc<dyn Hooks>,
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
}

impl Hooked {
    pub(crate) fn new(inner: Arc<dyn Broker>, hooks: Arc<dyn Hooks>) -> Self {
        let (capabilities, clock) = (inner.capabilities().clone(), inner.clock());
        Self { inner, hooks, capabilities, clock }
    }

    /// As one of those brokers that have no transactions.
    pub(crate) fn without_transactions(mut self) -> Self {
        self.capabilities.supports.transactions = false;
        self
    }

    fn inner_transactions(&self) -> &dyn Transactions {
        self.inner.transactions().expect("the embedded broker has transactions")
    }
}

#[async_trait]
impl Broker for Hooked {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn clock(&self) -> CorrectedClock {
        self.clock.clone()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.inner.declare(topology).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        let inner = self.inner.producer(options).await?;
        Ok(Box::new(HookedProducer { inner, hooks: self.hooks.clone() }))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        let inner = self.inner.consumer(options).await?;
        Ok(Box::new(HookedConsumer { inner, hooks: self.hooks.clone() }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.inner.inbox().await
    }

    fn has_subscribers(&self, topic: &TopicName) -> bool {
        self.inner.has_subscribers(topic)
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        self.capabilities.supports.transactions.then_some(self)
    }

    /// The broker stays: it is the others', too.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Transactions for Hooked {
    async fn commit(&self, units: Vec<Unit>) -> Vec<Result<()>> {
        match self.hooks.before_sending().await {
            Ok(()) => self.inner_transactions().commit(units).await,
            Err(error) => units.iter().map(|_| Err(error.duplicate())).collect(),
        }
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.inner_transactions().get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.inner_transactions().scan(range, limit).await
    }
}

#[derive(Debug)]
struct HookedProducer {
    inner: Box<dyn Producer>,
    hooks: Arc<dyn Hooks>,
}

#[async_trait]
impl Producer for HookedProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        if let Err(error) = self.hooks.before_sending().await {
            return batch.iter().map(|_| Err(error.duplicate())).collect();
        }
        let sent = batch.clone();
        let refused: Vec<Option<ErrorKind>> = batch.iter().map(|message| self.hooks.refuses(message)).collect();
        let taken = batch.into_iter().zip(&refused).filter(|(_, refused)| refused.is_none());
        let mut results = self.inner.publish(taken.map(|(message, _)| message).collect()).await.into_iter();
        self.hooks.after_publishing(&sent).await;
        let result = |refused: &Option<ErrorKind>| match refused {
            Some(kind) => Err(Error::new(*kind, "publish", "the test refuses it")),
            None => results.next().expect("a result for each message"),
        };
        refused.iter().map(result).collect()
    }

    async fn cancel(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        self.inner.cancel(delayed).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        self.hooks.before_sending().await?;
        self.inner.reply(replies).await
    }
}

#[derive(Debug)]
struct HookedConsumer {
    inner: Box<dyn Consumer>,
    hooks: Arc<dyn Hooks>,
}

#[async_trait]
impl Consumer for HookedConsumer {
    async fn next(&mut self) -> Result<Event> {
        let event = self.inner.next().await?;
        if let Event::Deliveries(deliveries) = &event {
            deliveries.iter().for_each(|delivery| self.hooks.delivered(delivery));
        }
        Ok(event)
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        tokens.iter().for_each(|token| self.hooks.settled(*token));
        self.inner.settle(tokens);
    }

    async fn flush(&mut self) -> Result<()> {
        self.inner.flush().await
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<()> {
        self.inner.release(partitions).await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.inner.close().await
    }
}
