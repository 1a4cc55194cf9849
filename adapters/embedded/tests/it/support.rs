use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{
    AckToken, Broker, Clock, Consumer, ConsumerOptions, Credit, Delivery, Event, Message, Ordering, Producer,
    ProducerOptions, Receipt, Result, SubscriptionName, Timestamp, TopicName, Topology,
};
use partitura_embedded::{Embedded, Options};
use tokio::time::Instant;

pub(crate) const EVENT_LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

pub(crate) fn subscription(name: &str) -> SubscriptionName {
    SubscriptionName::new(name).unwrap()
}

pub(crate) fn by_key(partitions: u32) -> Ordering {
    Ordering::ByKey { partitions }
}

/// The queue `q` with the subscription `s`.
pub(crate) fn queue(ordering: Ordering) -> Topology {
    Topology::new().queue(topic("q"), ordering).subscription(subscription("s"), [topic("q")])
}

pub(crate) async fn memory(topology: &Topology) -> Embedded {
    let broker = Embedded::memory(Options::default()).unwrap();
    broker.declare(topology).await.unwrap();
    broker
}

pub(crate) async fn file(directory: &tempfile::TempDir, topology: &Topology) -> Embedded {
    let broker = Embedded::open(directory.path(), Options::default()).unwrap();
    broker.declare(topology).await.unwrap();
    broker
}

pub(crate) fn options() -> ConsumerOptions {
    ConsumerOptions::new(subscription("s"), [topic("q")])
}

pub(crate) fn credit(messages: usize) -> Credit {
    Credit { messages: messages.try_into().unwrap(), ..Credit::default() }
}

/// A message to `q`, whose id is much like its text.
pub(crate) fn message(key: &str, text: impl ToString) -> Message {
    let text = text.to_string();
    Message::new(topic("q"), text.replace(' ', "-"), text.into_bytes()).key(key.to_owned().into_bytes())
}

pub(crate) async fn producer(broker: &dyn Broker) -> Box<dyn Producer> {
    broker.producer(ProducerOptions::default()).await.unwrap()
}

pub(crate) async fn publish(broker: &dyn Broker, batch: Vec<Message>) {
    for result in producer(broker).await.publish(batch).await {
        result.unwrap();
    }
}

pub(crate) async fn publish_one(broker: &dyn Broker, message: Message) -> Result<Receipt> {
    producer(broker).await.publish(vec![message]).await.remove(0)
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.payload.to_vec()).unwrap()
}

pub(crate) fn tokens(deliveries: &[Delivery]) -> Vec<AckToken> {
    deliveries.iter().map(|delivery| delivery.token).collect()
}

pub(crate) async fn next(consumer: &mut Box<dyn Consumer>) -> Event {
    tokio::time::timeout(EVENT_LIMIT, consumer.next()).await.expect("an event should have come").unwrap()
}

/// The next `count` deliveries; other events are skipped.
pub(crate) async fn receive(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        if let Event::Deliveries(deliveries) = next(consumer).await {
            all.extend(deliveries);
        }
    }
    assert_eq!(all.len(), count, "more than was expected: {:?}", all.iter().map(text).collect::<Vec<_>>());
    all
}

/// Checks that nothing is delivered for a moment.
pub(crate) async fn nothing(consumer: &mut Box<dyn Consumer>) {
    let quiet = tokio::time::timeout(Duration::from_millis(50), async {
        loop {
            if let Event::Deliveries(deliveries) = consumer.next().await.unwrap() {
                return deliveries;
            }
        }
    });
    if let Ok(deliveries) = quiet.await {
        panic!("not expected: {:?}", deliveries.iter().map(text).collect::<Vec<_>>());
    }
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}

/// Numbers as texts.
pub(crate) fn numbers(of: impl IntoIterator<Item = u32>) -> Vec<String> {
    of.into_iter().map(|number| number.to_string()).collect()
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The time of tokio, which a test may pause, as a wall clock.
#[derive(Debug)]
pub(crate) struct TokioClock(Instant);

impl TokioClock {
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + self.0.elapsed().as_millis() as u64)
    }
}

/// The next deliveries, at least `count`.
pub(crate) async fn receive_at_least(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        if let Event::Deliveries(deliveries) = next(consumer).await {
            all.extend(deliveries);
        }
    }
    all
}

/// The next event that is not deliveries.
pub(crate) async fn news(consumer: &mut Box<dyn Consumer>) -> Event {
    match next(consumer).await {
        Event::Deliveries(deliveries) => panic!("not expected: {:?}", texts(&deliveries)),
        event => event,
    }
}

/// Every message must have been confirmed.
pub(crate) fn all_confirmed(results: Vec<Result<Receipt>>) {
    for result in results {
        result.unwrap();
    }
}
