use std::time::Duration;

use partitura_broker::{
    Broker, Consumer, ConsumerOptions, Delivery, Event, Message, ProducerOptions, SubscriptionName, TopicName,
};
use partitura_nats::{Nats, Options};
use partitura_servers::{Kind, Server};

/// Only a test that is stuck takes longer. It is no measure of speed.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The standing server. Starts it, if it is not up.
pub(crate) async fn server() -> Server {
    let up = tokio::task::spawn_blocking(|| {
        let server = Server::new(Kind::Nats);
        server.up().expect("a server that starts");
        server
    });
    up.await.expect("no panic")
}

pub(crate) async fn nats() -> Nats {
    Nats::connect(&server().await.url(), Options::default()).await.expect("the server is up")
}

/// A name that no topic has.
pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(format!("it-{name}-{}", uuid::Uuid::now_v7().simple())).expect("a valid name")
}

pub(crate) fn subscription(name: &str) -> SubscriptionName {
    SubscriptionName::new(name).expect("a valid name")
}

pub(crate) fn message(topic: &TopicName, number: usize) -> Message {
    Message::new(topic.clone(), format!("id-{number}"), number.to_string()).key("k")
}

pub(crate) async fn publish(broker: &dyn Broker, messages: Vec<Message>) {
    let producer = broker.producer(ProducerOptions::default()).await.expect("a producer");
    for result in producer.publish(messages).await {
        result.expect("a confirm");
    }
}

pub(crate) async fn join(broker: &dyn Broker, name: &str, topic: &TopicName) -> Box<dyn Consumer> {
    broker.consumer(ConsumerOptions::new(subscription(name), [topic.clone()])).await.expect("it is declared")
}

/// Takes and holds this number of deliveries.
pub(crate) async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let taking = async {
        let mut all = Vec::new();
        while all.len() < count {
            if let Event::Deliveries(more) = consumer.next().await.expect("the server is up") {
                all.extend(more);
            }
        }
        all
    };
    tokio::time::timeout(TEST_TIMEOUT, taking).await.expect("all of them come")
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.id.as_str()).collect()
}
