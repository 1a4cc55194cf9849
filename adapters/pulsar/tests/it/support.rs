use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use partitura_broker::{
    Broker, Consumer, ConsumerOptions, Delivery, Event, Message, Ordering, ProducerOptions, SubscriptionName,
    TopicName, Topology,
};
use partitura_pulsar::{Options, Pulsar};
use partitura_servers::{Endpoints, Kind, Server};

/// The broker's endpoints, after it has been started.
pub(crate) fn endpoints() -> Endpoints {
    static UP: OnceLock<Endpoints> = OnceLock::new();
    let up = || {
        let server = Server::new(Kind::Pulsar);
        server.up().expect("Pulsar starts");
        server.endpoints()
    };
    UP.get_or_init(up).clone()
}

pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.admin = endpoints().admin;
    options.credentials = None;
    options
}

pub(crate) async fn connect(options: Options) -> Pulsar {
    let url = tokio::task::spawn_blocking(|| endpoints().url).await.expect("not cancelled");
    Pulsar::connect(&url, options).await.expect("a connection")
}

/// A topic and a subscription of one test.
pub(crate) struct Place {
    pub(crate) topic: TopicName,
    pub(crate) subscription: SubscriptionName,
    pub(crate) ordering: Ordering,
}

impl Place {
    pub(crate) fn new(name: &str, ordering: Ordering) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let topic = TopicName::new(format!("it-{name}-{now}")).expect("a name");
        Self { topic, subscription: SubscriptionName::new("reader").expect("a name"), ordering }
    }

    pub(crate) fn topology(&self) -> Topology {
        Topology::new()
            .stream(self.topic.clone(), self.ordering)
            .subscription(self.subscription.clone(), [self.topic.clone()])
    }

    pub(crate) fn messages(&self, ids: std::ops::Range<usize>) -> Vec<Message> {
        ids.map(|i| Message::new(self.topic.clone(), format!("m-{i}"), format!("payload {i}")).key("k")).collect()
    }

    pub(crate) async fn join(&self, broker: &Pulsar) -> Box<dyn Consumer> {
        let options = ConsumerOptions::new(self.subscription.clone(), [self.topic.clone()]);
        broker.consumer(options).await.expect("a consumer")
    }
}

pub(crate) async fn publish(broker: &Pulsar, batch: Vec<Message>) {
    let producer = broker.producer(ProducerOptions::default()).await.expect("a producer");
    for result in producer.publish(batch).await {
        result.expect("a receipt");
    }
}

/// Takes `count` deliveries, and holds them.
pub(crate) async fn take(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        if let Event::Deliveries(more) = consumer.next().await.expect("an event") {
            all.extend(more);
        }
    }
    all
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.id.as_str()).collect()
}
