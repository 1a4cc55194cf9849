//! A broker that can be away, cut off, or short of patience, for tests in virtual time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura::Partitura;
use partitura_broker::{
    AckToken, Broker, Capabilities, Clock, Consumer, ConsumerOptions, CorrectedClock, Delayed, Entry, Error, ErrorKind,
    Event, Inbox, InboxAddress, Message, Partition, Producer, ProducerOptions, Receipt, Result, ScanRange, Space,
    SystemClock, Timestamp, TopicName, Topology, Transactions, Unit, Version,
};
use partitura_embedded::{Embedded, Options};
use partitura_engine::BrokerStore;
use tokio::time::Instant;

/// Follows the paused clock of the test's runtime.
#[derive(Debug)]
pub(crate) struct Virtual {
    start: Instant,
    origin: Timestamp,
}

impl Virtual {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), origin: SystemClock.now() })
    }
}

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        self.origin + self.start.elapsed()
    }

    fn now_rounded_up(&self) -> Timestamp {
        self.now()
    }
}

/// What is wrong with a broker.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// It refuses everything that is sent.
    away: AtomicBool,
    /// Nothing that is sent arrives, and nothing is answered.
    cut: AtomicBool,
    /// Deliveries that were held for longer than it allows.
    overheld: AtomicUsize,
}

impl Troubles {
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub(crate) fn cut_off(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn overheld(&self) -> usize {
        self.overheld.load(Ordering::SeqCst)
    }

    async fn check(&self) -> Result<()> {
        if self.cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Disconnected, "publish", "the broker is away"));
        }
        Ok(())
    }
}

/// One process' view of an embedded broker in memory.
#[derive(Debug)]
pub(crate) struct Troubled {
    inner: Arc<Embedded>,
    capabilities: Capabilities,
    pub(crate) troubles: Arc<Troubles>,
}

/// An embedded broker in memory that follows the clock.
pub(crate) fn embedded(clock: &Arc<Virtual>) -> Arc<Embedded> {
    Arc::new(Embedded::memory(Options::default().clock(clock.clone())).expect("a broker in memory"))
}

impl Troubled {
    pub(crate) fn new(inner: &Arc<Embedded>) -> Self {
        let capabilities = inner.capabilities().clone();
        Self { inner: inner.clone(), capabilities, troubles: Arc::default() }
    }

    /// As one of those brokers that have no transactions.
    pub(crate) fn without_transactions(mut self) -> Self {
        self.capabilities.supports.transactions = false;
        self
    }

    /// As one that takes a delivery away that is held for this long.
    pub(crate) fn hold(mut self, limit: Duration) -> Self {
        self.capabilities.hold = Some(limit);
        self
    }

    /// As one that delays for no longer than this.
    pub(crate) fn delay(mut self, limit: Duration) -> Self {
        self.capabilities.delay.max = limit;
        self
    }

    /// An engine on it; the state is kept by the embedded broker.
    pub(crate) async fn engine(self, clock: &Arc<Virtual>) -> Partitura {
        let store = (!self.capabilities.supports.transactions)
            .then(|| BrokerStore::new(self.inner.clone()).expect("it keeps state"));
        let builder = Partitura::on(Arc::new(self)).clock(clock.clone()).ask_again(Duration::MAX);
        let builder = store.into_iter().fold(builder, |builder, store| builder.store(Arc::new(store)));
        builder.await.expect("an engine")
    }
}

#[async_trait]
impl Broker for Troubled {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn clock(&self) -> CorrectedClock {
        self.inner.clock()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.inner.declare(topology).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        let inner = self.inner.producer(options).await?;
        Ok(Box::new(TroubledProducer { inner, troubles: self.troubles.clone() }))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        let inner = self.inner.consumer(options).await?;
        let (hold, troubles) = (self.capabilities.hold, self.troubles.clone());
        Ok(Box::new(TroubledConsumer { inner, hold, troubles, held: Arc::default() }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.inner.inbox().await
    }

    fn has_audience(&self, topic: &TopicName) -> bool {
        self.inner.has_audience(topic)
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        self.capabilities.supports.transactions.then_some(self)
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl Transactions for Troubled {
    async fn commit(&self, units: Vec<Unit>) -> Vec<Result<()>> {
        match self.troubles.check().await {
            Ok(()) => self.inner.transactions().expect("it has them").commit(units).await,
            Err(error) => units.iter().map(|_| Err(error.duplicate())).collect(),
        }
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.inner.transactions().expect("it has them").get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.inner.transactions().expect("it has them").scan(range, limit).await
    }
}

#[derive(Debug)]
struct TroubledProducer {
    inner: Box<dyn Producer>,
    troubles: Arc<Troubles>,
}

#[async_trait]
impl Producer for TroubledProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        match self.troubles.check().await {
            Ok(()) => self.inner.publish(batch).await,
            Err(error) => batch.iter().map(|_| Err(error.duplicate())).collect(),
        }
    }

    async fn cancel(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        self.inner.cancel(delayed).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        self.troubles.check().await?;
        self.inner.reply(replies).await
    }
}

/// Notes what is held for too long.
#[derive(Debug)]
struct TroubledConsumer {
    inner: Box<dyn Consumer>,
    hold: Option<Duration>,
    troubles: Arc<Troubles>,
    held: Arc<Mutex<HashMap<AckToken, Instant>>>,
}

impl TroubledConsumer {
    fn judge(&self, since: Instant) {
        if self.hold.is_some_and(|hold| since.elapsed() > hold) {
            self.troubles.overheld.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl Consumer for TroubledConsumer {
    async fn next(&mut self) -> Result<Event> {
        let event = self.inner.next().await?;
        if let Event::Deliveries(deliveries) = &event {
            let now = Instant::now();
            let tokens = deliveries.iter().map(|delivery| (delivery.token, now));
            self.held.lock().unwrap_or_else(PoisonError::into_inner).extend(tokens);
        }
        Ok(event)
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        for token in tokens {
            let since = self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
            since.into_iter().for_each(|since| self.judge(since));
        }
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
