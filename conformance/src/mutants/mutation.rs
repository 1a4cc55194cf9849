//! A wrapper that changes nothing, except for the methods that a mutation overrides.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{
    AckToken, Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delayed, Delivery, Entry, Event, Inbox,
    InboxAddress, Message, MessageId, Partition, Producer, ProducerOptions, Receipt, Result, ScanRange, Space,
    TopicName, Topology, Transactions, Unit, Version,
};

/// The change of a mutant to the broker that it wraps. Each method does the right thing unless it is overridden.
#[async_trait]
pub(super) trait Mutation: Debug + Send + Sync + 'static {
    fn capabilities(&self, honest: Capabilities) -> Capabilities {
        honest
    }

    async fn declare(&self, inner: &dyn Broker, topology: &Topology) -> Result<()> {
        inner.declare(topology).await
    }

    fn join(&self, options: ConsumerOptions) -> ConsumerOptions {
        options
    }

    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        inner.publish(batch).await
    }

    async fn cancel(&self, inner: &Arc<dyn Producer>, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        inner.cancel(delayed).await
    }

    async fn reply(&self, inner: &Arc<dyn Producer>, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        inner.reply(replies).await
    }

    async fn inbox(&self, inner: &dyn Broker) -> Result<Box<dyn Inbox>> {
        inner.inbox().await
    }

    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.next().await
    }

    fn settle(&self, own: &mut Own, tokens: &[AckToken]) {
        own.inner.settle(tokens);
    }

    async fn release(&self, own: &mut Own, partitions: &[Partition]) -> Result<()> {
        own.inner.release(partitions).await
    }

    async fn leave(&self, own: Own) -> Result<()> {
        own.inner.close().await
    }

    async fn commit(&self, inner: &dyn Transactions, units: Vec<Unit>) -> Vec<Result<()>> {
        inner.commit(units).await
    }

    async fn scan(&self, inner: &dyn Transactions, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        inner.scan(range, limit).await
    }

    fn has_subscribers(&self, inner: &dyn Broker, topic: &TopicName) -> bool {
        inner.has_subscribers(topic)
    }

    async fn close(&self, inner: &dyn Broker) -> Result<()> {
        inner.close().await
    }
}

/// A consumer that a mutation changes.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) inner: Box<dyn Consumer>,
    pub(super) options: ConsumerOptions,
    /// The clock of its connection.
    pub(super) clock: CorrectedClock,
    /// Which consumer of this broker it is, from 0.
    pub(super) number: u32,
    /// The deliveries that were handed out, settled or not. Their messages are not kept: a consumer whose wrapper kept
    /// them would have too much memory, whatever its mutant does.
    pub(super) handed_out: Vec<HandedOut>,
    /// Events that come before all others.
    pub(super) later: VecDeque<Event>,
    /// Tokens that the mutation remembers.
    pub(super) tokens: Vec<AckToken>,
}

/// A delivery that was handed out, without its message.
#[derive(Debug, Clone)]
pub(super) struct HandedOut {
    pub(super) token: AckToken,
    pub(super) partition: Partition,
    pub(super) id: MessageId,
}

impl From<&Delivery> for HandedOut {
    fn from(delivery: &Delivery) -> Self {
        Self { token: delivery.token, partition: delivery.partition, id: delivery.message.id.clone() }
    }
}

/// The tokens of deliveries.
pub(super) fn tokens(handed_out: &[HandedOut]) -> Vec<AckToken> {
    handed_out.iter().map(|delivery| delivery.token).collect()
}

impl Own {
    pub(super) async fn next(&mut self) -> Result<Event> {
        let event = match self.later.pop_front() {
            Some(event) => event,
            None => self.inner.next().await?,
        };
        if let Event::Deliveries(deliveries) = &event {
            self.handed_out.extend(deliveries.iter().map(HandedOut::from));
        }
        Ok(event)
    }

    /// The next event, its deliveries changed. Where none are left, the next one.
    pub(super) async fn map(&mut self, mut change: impl FnMut(Vec<Delivery>) -> Vec<Delivery> + Send) -> Result<Event> {
        loop {
            match self.next().await? {
                Event::Deliveries(deliveries) => {
                    let left = change(deliveries);
                    if !left.is_empty() {
                        return Ok(Event::Deliveries(left));
                    }
                }
                event => return Ok(event),
            }
        }
    }
}

/// Wraps `broker` in a mutation.
pub(super) fn wrap(broker: Arc<dyn Broker>, mutation: impl Mutation) -> Arc<dyn Broker> {
    let mutation: Arc<dyn Mutation> = Arc::new(mutation);
    let capabilities = mutation.capabilities(broker.capabilities().clone());
    Arc::new(Mutated { inner: broker, mutation, capabilities, consumers: AtomicU32::new(0) })
}

#[derive(Debug)]
struct Mutated {
    inner: Arc<dyn Broker>,
    mutation: Arc<dyn Mutation>,
    capabilities: Capabilities,
    consumers: AtomicU32,
}

#[async_trait]
impl Broker for Mutated {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn clock(&self) -> CorrectedClock {
        self.inner.clock()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.mutation.declare(&*self.inner, topology).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        let inner: Arc<dyn Producer> = self.inner.producer(options).await?.into();
        Ok(Box::new(MutatedProducer { inner, mutation: self.mutation.clone() }))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        let inner = self.inner.consumer(self.mutation.join(options.clone())).await?;
        let number = self.consumers.fetch_add(1, Ordering::Relaxed);
        let (handed_out, later, tokens) = Default::default();
        let clock = self.inner.clock();
        let own = Own { inner, options, clock, number, handed_out, later, tokens };
        Ok(Box::new(MutatedConsumer { own, mutation: self.mutation.clone() }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.mutation.inbox(&*self.inner).await
    }

    fn has_subscribers(&self, topic: &TopicName) -> bool {
        self.mutation.has_subscribers(&*self.inner, topic)
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        self.inner.transactions().map(|_| self as &dyn Transactions)
    }

    async fn close(&self) -> Result<()> {
        self.mutation.close(&*self.inner).await
    }
}

impl Mutated {
    fn inner(&self) -> &dyn Transactions {
        self.inner.transactions().expect("asked for only where the broker has them")
    }
}

#[async_trait]
impl Transactions for Mutated {
    async fn commit(&self, units: Vec<Unit>) -> Vec<Result<()>> {
        self.mutation.commit(self.inner(), units).await
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.inner().get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.mutation.scan(self.inner(), range, limit).await
    }
}

#[derive(Debug)]
struct MutatedProducer {
    inner: Arc<dyn Producer>,
    mutation: Arc<dyn Mutation>,
}

#[async_trait]
impl Producer for MutatedProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        self.mutation.publish(&self.inner, batch).await
    }

    async fn cancel(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        self.mutation.cancel(&self.inner, delayed).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        self.mutation.reply(&self.inner, replies).await
    }
}

#[derive(Debug)]
struct MutatedConsumer {
    own: Own,
    mutation: Arc<dyn Mutation>,
}

#[async_trait]
impl Consumer for MutatedConsumer {
    async fn next(&mut self) -> Result<Event> {
        self.mutation.next(&mut self.own).await
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        self.mutation.settle(&mut self.own, tokens);
    }

    async fn flush(&mut self) -> Result<()> {
        self.own.inner.flush().await
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<()> {
        self.mutation.release(&mut self.own, partitions).await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let Self { own, mutation } = *self;
        mutation.leave(own).await
    }
}

#[cfg(test)]
mod tests {
    use partitura_broker::{ErrorKind, SubscriptionName};

    use super::*;

    /// Gives one delivery.
    #[derive(Debug)]
    struct Gives(Option<Delivery>);

    #[async_trait]
    impl Consumer for Gives {
        async fn next(&mut self) -> Result<Event> {
            let delivery = self
                .0
                .take()
                .ok_or_else(|| partitura_broker::Error::new(ErrorKind::Closed, "consume", "there is one delivery"))?;
            Ok(Event::Deliveries(vec![delivery]))
        }

        fn settle(&mut self, _: &[AckToken]) {}

        async fn flush(&mut self) -> Result<()> {
            Ok(())
        }

        async fn release(&mut self, _: &[Partition]) -> Result<()> {
            Ok(())
        }

        async fn close(self: Box<Self>) -> Result<()> {
            Ok(())
        }
    }

    #[derive(Debug)]
    struct Nothing;

    impl Mutation for Nothing {}

    /// Otherwise a mutant would be caught for the memory of its wrapper.
    #[tokio::test]
    async fn a_wrapper_keeps_no_message() {
        let payload = Bytes::from(vec![7; 1_000]);
        let topic = TopicName::new("orders").expect("a name");
        let message = Message::new(topic.clone(), "id", payload.clone());
        let token = AckToken { consumer: 0, partition: Partition(0), epoch: 0, slot: 0 };
        let gives = Gives(Some(Delivery { message, partition: Partition(0), redelivered: false, token }));
        let own = Own {
            inner: Box::new(gives),
            options: ConsumerOptions::new(SubscriptionName::new("billing").expect("a name"), [topic]),
            clock: CorrectedClock::default(),
            number: 0,
            handed_out: Vec::new(),
            later: VecDeque::new(),
            tokens: Vec::new(),
        };
        let mut consumer = MutatedConsumer { own, mutation: Arc::new(Nothing) };
        let event = consumer.next().await.expect("a delivery");
        assert!(!payload.is_unique());
        drop(event);
        assert!(payload.is_unique());
        assert_eq!(tokens(&consumer.own.handed_out), [token]);
    }
}
