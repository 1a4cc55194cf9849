//! A broker without transactions, between the engine and the embedded one, that refuses what the test says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use partitura::{Builder, Partitura};
use partitura_broker::{
    Broker, Capabilities, Clock, Consumer, ConsumerOptions, Delayed, Error, ErrorKind, Inbox, InboxAddress, Message,
    Producer, ProducerOptions, Receipt, Result, SystemClock, Timestamp, TopicName, Topology,
};
use partitura_embedded::{Embedded, Options};
use partitura_engine::BrokerStore;
use tokio::time::Instant;

type Refuse = Box<dyn Fn(&Message) -> Option<ErrorKind> + Send>;

/// A broker in memory, and beside it the state in another, in the virtual time of a paused runtime. Several engines on
/// it are as many processes.
#[derive(Clone)]
pub(crate) struct Place {
    broker: Arc<dyn Broker>,
    store: Arc<dyn Broker>,
    clock: Arc<Virtual>,
    refuse: Arc<Mutex<Option<Refuse>>>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(Virtual { start: Instant::now(), origin: SystemClock.now() });
        let embedded =
            || Arc::new(Embedded::memory(Options::default().clock(clock.clone())).expect("a broker in memory"));
        Self { broker: embedded(), store: embedded(), clock: clock.clone(), refuse: Arc::default() }
    }

    /// From now on, what this gives an error for is not published.
    pub(crate) fn refuse(&self, refuse: impl Fn(&Message) -> Option<ErrorKind> + Send + 'static) {
        *self.refuse.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(refuse));
    }

    /// Everything is published again.
    pub(crate) fn accept(&self) {
        *self.refuse.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The settings of one more process.
    pub(crate) fn builder(&self) -> Builder {
        let broker = Between { inner: self.broker.clone(), refuse: self.refuse.clone(), limits: None };
        let store = BrokerStore::new(self.store.clone()).expect("the embedded broker keeps state");
        Partitura::on(Arc::new(broker)).store(Arc::new(store)).clock(self.clock.clone()).ask_again(Duration::MAX)
    }

    /// One more process.
    pub(crate) async fn process(&self) -> Partitura {
        self.builder().await.expect("an engine")
    }

    /// How many values a space of the store has.
    pub(crate) async fn stored(&self, space: &'static str) -> usize {
        let range = partitura_broker::ScanRange::prefix(space, bytes::Bytes::new());
        let transactions = self.store.transactions().expect("transactions");
        transactions.scan(range, 10_000).await.expect("readable").len()
    }
}

#[derive(Debug)]
pub(crate) struct Virtual {
    start: Instant,
    origin: Timestamp,
}

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.origin.as_millis() + self.start.elapsed().as_millis() as u64)
    }
}

struct Between {
    inner: Arc<dyn Broker>,
    refuse: Arc<Mutex<Option<Refuse>>>,
    limits: Option<Capabilities>,
}

impl std::fmt::Debug for Between {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Between")
    }
}

#[async_trait]
impl Broker for Between {
    fn capabilities(&self) -> &Capabilities {
        self.limits.as_ref().unwrap_or_else(|| self.inner.capabilities())
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.inner.declare(topology).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        let inner = self.inner.producer(options).await?;
        Ok(Box::new(Refusing { inner, refuse: self.refuse.clone() }))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        self.inner.consumer(options).await
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.inner.inbox().await
    }

    fn has_audience(&self, topic: &TopicName) -> bool {
        self.inner.has_audience(topic)
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

struct Refusing {
    inner: Box<dyn Producer>,
    refuse: Arc<Mutex<Option<Refuse>>>,
}

impl std::fmt::Debug for Refusing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refusing")
    }
}

#[async_trait]
impl Producer for Refusing {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<Receipt>> {
        let refused: Vec<Option<ErrorKind>> = {
            let refuse = self.refuse.lock().unwrap_or_else(PoisonError::into_inner);
            messages.iter().map(|message| refuse.as_ref().and_then(|refuse| refuse(message))).collect()
        };
        let taken = messages.into_iter().zip(&refused).filter(|(_, refused)| refused.is_none());
        let mut results = self.inner.publish(taken.map(|(message, _)| message).collect()).await.into_iter();
        let result = |kind: &Option<ErrorKind>| match kind {
            Some(kind) => Err(Error::new(*kind, "publish", "the test refuses it")),
            None => results.next().expect("a result for each message"),
        };
        refused.iter().map(result).collect()
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        self.inner.reply(replies).await
    }

    async fn cancel(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        self.inner.cancel(delayed).await
    }
}
