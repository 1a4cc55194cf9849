use std::future::Future;
use std::time::Duration;

use partitura_amqp::{Amqp, Options};
use partitura_broker::{
    Broker, Consumer, ConsumerOptions, Delivery, Event, Message, Ordering, Partition, Producer, ProducerOptions,
    SubscriptionName, TopicName, Topology,
};
use tokio::time::timeout;

use crate::peer::Peer;

pub(crate) const ORDERED: Ordering = Ordering::ByKey { partitions: 2 };

/// Nothing here takes as long.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.expect("in time")
}

/// The delay of a message that must reach the broker before it is due, also on a slow machine.
pub(crate) const LATER: Duration = Duration::from_secs(5);

pub(crate) fn orders() -> TopicName {
    TopicName::new("orders").expect("a name")
}

pub(crate) fn billing() -> SubscriptionName {
    SubscriptionName::new("billing").expect("a name")
}

pub(crate) fn topology(ordering: Ordering) -> Topology {
    Topology::new().stream(orders(), ordering).subscription(billing(), [orders()])
}

/// A client of its own.
pub(crate) async fn connect(peer: &Peer) -> Amqp {
    within(Amqp::connect(&peer.url(), Options::default())).await.expect("connected")
}

/// A client that has declared the topic.
pub(crate) async fn declared(peer: &Peer) -> Amqp {
    let broker = connect(peer).await;
    within(broker.declare(&topology(ORDERED))).await.expect("declared");
    broker
}

pub(crate) async fn consumer(broker: &Amqp) -> Box<dyn Consumer> {
    within(broker.consumer(ConsumerOptions::new(billing(), [orders()]))).await.expect("a consumer")
}

pub(crate) async fn producer(broker: &Amqp) -> Box<dyn Producer> {
    within(broker.producer(ProducerOptions::default())).await.expect("a producer")
}

pub(crate) fn message(id: &str, key: &str) -> Message {
    Message::new(orders(), id, id.to_owned()).key(key.to_owned())
}

/// Publishes, and returns the partitions.
pub(crate) async fn publish(broker: &Amqp, messages: Vec<Message>) -> Vec<Partition> {
    let receipts = within(producer(broker).await.publish(messages)).await;
    receipts.into_iter().map(|receipt| receipt.expect("published").partition).collect()
}

/// Waits for the next event.
pub(crate) async fn event(consumer: &mut dyn Consumer) -> Event {
    within(consumer.next()).await.expect("an event")
}

/// Waits for this number of messages.
pub(crate) async fn deliveries(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        if let Event::Deliveries(deliveries) = event(consumer).await {
            all.extend(deliveries);
        }
    }
    all
}

/// Waits until this number of partitions is assigned.
pub(crate) async fn assigned(consumer: &mut dyn Consumer, count: usize) {
    let mut found = 0;
    while found < count {
        if let Event::Assigned(assignments) = event(consumer).await {
            found += assignments.len();
        }
    }
}

/// Waits until a member is asked for a partition, and gives it up.
pub(crate) async fn yields(consumer: &mut dyn Consumer) {
    loop {
        if let Event::Revoking { partitions, .. } = event(consumer).await {
            return within(consumer.release(&partitions)).await.expect("released");
        }
    }
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.id.as_str()).collect()
}
