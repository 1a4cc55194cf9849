//! Objects that an operator deletes.

use std::collections::HashMap;
use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use partitura_broker::{
    Broker, Clock, Consumer, ConsumerOptions, Event, Message, Ordering, Partition, ProducerOptions, SubscriptionName,
    SystemClock, TopicName, Topology, partition_of,
};
use partitura_rabbitmq::Rabbitmq;
use tokio::time::timeout;

use crate::{PARTITIONS, TEST_TIMEOUT, broker};

/// A queue and its reader.
struct Orders {
    topic: TopicName,
    subscription: SubscriptionName,
}

impl Orders {
    async fn declare(broker: &Rabbitmq, name: &str) -> Self {
        let topic = TopicName::new(format!("{name}-{}", SystemClock.now().as_millis())).expect("a name");
        let subscription = SubscriptionName::new("readers").expect("a name");
        let orders = Self { topic, subscription };
        broker.declare(&orders.topology()).await.expect("declared");
        orders
    }

    fn topology(&self) -> Topology {
        let ordering = Ordering::ByKey { partitions: PARTITIONS };
        Topology::new()
            .queue(self.topic.clone(), ordering)
            .subscription(self.subscription.clone(), [self.topic.clone()])
    }

    async fn consumer(&self, broker: &Rabbitmq) -> Box<dyn Consumer> {
        let options = ConsumerOptions::new(self.subscription.clone(), [self.topic.clone()]);
        broker.consumer(options).await.expect("a member")
    }

    /// Publishes a message of each key, with a delay.
    async fn publish(&self, broker: &Rabbitmq, keys: impl IntoIterator<Item = String>, wait: Duration) {
        let due = SystemClock.now() + wait;
        let message = |key: String| Message::new(self.topic.clone(), key.clone(), "").key(key).not_before(due);
        let producer = broker.producer(ProducerOptions::default()).await.expect("a producer");
        let sent = producer.publish(keys.into_iter().map(message).collect()).await;
        sent.into_iter().collect::<Result<Vec<_>, _>>().expect("published");
    }

    async fn delete_due(&self, broker: &Rabbitmq) {
        let channel = broker.client().await.expect("a connection").create_channel().await.expect("a channel");
        let due = format!("partitura:{}:due", self.topic);
        channel.queue_delete(due.into(), QueueDeleteOptions::default()).await.expect("deleted");
    }
}

/// Waits until each of these has come, and returns how often each of them did.
async fn receive(consumer: &mut Box<dyn Consumer>, count: usize) -> HashMap<String, usize> {
    let mut came = HashMap::new();
    let receiving = async {
        while came.len() < count {
            if let Event::Deliveries(deliveries) = consumer.next().await.expect("an event") {
                consumer.settle(&deliveries.iter().map(|delivery| delivery.token).collect::<Vec<_>>());
                for delivery in deliveries {
                    *came.entry(delivery.message.id.to_string()).or_default() += 1;
                }
            }
        }
    };
    let received = timeout(2 * TEST_TIMEOUT, receiving).await;
    received.unwrap_or_else(|_| panic!("{} of {count} came", came.len()));
    came
}

fn keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| format!("key-{i}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_messages_come_although_their_due_queue_is_deleted_under_its_consumer() {
    let broker = broker().await;
    let orders = Orders::declare(&broker, "deleted-due").await;
    let mut consumer = orders.consumer(&broker).await;
    for wait in [1_500, 5_000, 9_000] {
        let named = |key| format!("{wait}-{key}");
        orders.publish(&broker, keys(20).map(named), Duration::from_millis(wait)).await;
    }
    orders.delete_due(&broker).await;
    // The messages that waited in the queue itself were deleted with it.
    receive(&mut consumer, 40).await;
    broker.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_fell_due_without_a_due_queue_are_recovered_by_the_next_consumer() {
    let broker = broker().await;
    let orders = Orders::declare(&broker, "due-while-deleted").await;
    orders.delete_due(&broker).await;
    orders.publish(&broker, keys(60), Duration::from_secs(10)).await;
    let channel = broker.client().await.expect("a connection").create_channel().await.expect("a channel");
    let undeliverable = async {
        loop {
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            let queue = channel.queue_declare("partitura:undeliverable".into(), passive, FieldTable::default());
            if queue.await.expect("it exists").message_count() >= 60 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(TEST_TIMEOUT, undeliverable).await.expect("they are undeliverable");
    let mut consumer = orders.consumer(&broker).await;
    receive(&mut consumer, 60).await;
    broker.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_takes_no_messages_keeps_no_others_back() {
    /// More than a forwarder has in memory.
    const STUCK: usize = 9_000;
    let broker = broker().await;
    let orders = Orders::declare(&broker, "stuck").await;
    let of = |first: bool| move |key: &String| (partition_of(key.as_bytes(), PARTITIONS) == Partition(0)) == first;
    let wait = Duration::from_secs(5);
    orders.publish(&broker, keys(usize::MAX).filter(of(true)).take(STUCK), wait).await;
    orders.publish(&broker, keys(usize::MAX).filter(of(false)).take(100), wait).await;
    let channel = broker.client().await.expect("a connection").create_channel().await.expect("a channel");
    let (queue, exchange) = (format!("partitura:{}:readers:0", orders.topic), format!("partitura:{}", orders.topic));
    let none = FieldTable::default;
    let unbound = channel.queue_unbind(queue.as_str().into(), exchange.as_str().into(), "0".into(), none());
    unbound.await.expect("unbound");
    let mut consumer = orders.consumer(&broker).await;
    receive(&mut consumer, 100).await;
    let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
    channel.queue_bind(queue, exchange, "0".into(), QueueBindOptions::default(), none()).await.expect("bound");
    receive(&mut consumer, STUCK).await;
    broker.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_hear_each_other_again_after_their_exchange_is_deleted_and_declared() {
    let broker = broker().await;
    let orders = Orders::declare(&broker, "deleted-exchange").await;
    let mut first = orders.consumer(&broker).await;
    owned(&mut first, PARTITIONS as usize).await;
    let channel = broker.client().await.expect("a connection").create_channel().await.expect("a channel");
    let exchange = format!("partitura:{}", orders.topic);
    channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.expect("deleted");
    broker.declare(&orders.topology()).await.expect("declared");
    // The queues were there all the time, so that the first member has lost nothing. It is to share with the second.
    let mut second = orders.consumer(&broker).await;
    let giving = async {
        loop {
            if let Event::Revoking { partitions, .. } = first.next().await.expect("an event") {
                first.release(&partitions).await.expect("released");
            }
        }
    };
    tokio::select! {
        () = owned(&mut second, PARTITIONS as usize / 2) => {}
        () = giving => {}
    }
    broker.close().await.expect("closed");
}

/// Waits until a consumer owns at least this many partitions.
async fn owned(consumer: &mut Box<dyn Consumer>, count: usize) {
    let owning = async {
        let mut owned = 0;
        while owned < count {
            match consumer.next().await.expect("an event") {
                Event::Assigned(partitions) => owned += partitions.len(),
                Event::Revoking { partitions, .. } => {
                    owned -= partitions.len();
                    consumer.release(&partitions).await.expect("released");
                }
                _ => {}
            }
        }
    };
    timeout(2 * TEST_TIMEOUT, owning).await.expect("it owns them");
}
