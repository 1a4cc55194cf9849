//! Delayed messages that their topic refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};
use std::time::Duration;

use partitura_broker::{Broker, Message, ProducerOptions, Topology};
use partitura_kafka::Kafka;
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::consuming::{Consuming, publish};
use super::{Done, FOUR, connect, fresh, subscription};

/// Counts how often the forwarder of a topic logs that it retries to publish.
struct Retries {
    topic: String,
    count: Arc<AtomicUsize>,
}

impl Subscriber for Retries {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut seen = Seen(String::new());
        event.record(&mut seen);
        if seen.0.contains("retrying to publish a delayed message") && seen.0.contains(&self.topic) {
            self.count.fetch_add(1, Atomic::Relaxed);
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Seen(String);

impl Visit for Seen {
    fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{value:?} "));
    }
}

async fn limit(broker: &Kafka, topic: &str, bytes: &str) -> Done {
    let admin = broker.client().ok_or("the connection is open")?;
    let change =
        AlterConfig::new(ResourceSpecifier::Topic(topic)).set("retention.ms", "-1").set("max.message.bytes", bytes);
    for result in admin.alter_configs(&[change], &AdminOptions::new()).await? {
        result.map_err(|(_, code)| code)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_delayed_message_is_tried_less_and_less_often_and_holds_up_no_other() -> Done {
    let (broker, topic, name) = (connect().await?, fresh("refused"), subscription("worker"));
    let count = Arc::<AtomicUsize>::default();
    // The forwarder has a thread of its own. No other thread of this process logs this about the topic.
    let retries = Retries { topic: topic.to_string(), count: count.clone() };
    tracing::subscriber::set_global_default(retries)?;
    broker.declare(&Topology::new().queue(topic.clone(), FOUR).subscription(name.clone(), [topic.clone()])).await?;
    let producer = broker.producer(ProducerOptions::default()).await?;
    let consumer = Consuming::start(&broker, &name, std::slice::from_ref(&topic)).await?;
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH)?;
    let due = partitura_broker::Timestamp::from_millis((now + Duration::from_secs(2)).as_millis() as u64);
    let large = Message::new(topic.clone(), "large", vec![7; 100_000]).key("k0").not_before(due);
    producer.publish(vec![large]).await.remove(0)?;
    limit(&broker, topic.as_str(), "20000").await?;
    let small = publish(&*producer, &topic, "small", 200, Some(Duration::from_secs(3))).await?;
    Consuming::until(&[&consumer], &small).await?;
    while count.load(Atomic::Relaxed) < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Three attempts take a second and a half. Without a pause there would be thousands.
    assert!(count.load(Atomic::Relaxed) < 20, "{}", count.load(Atomic::Relaxed));
    limit(&broker, topic.as_str(), "2097152").await?;
    Consuming::until(&[&consumer], &["large".to_owned()].into()).await
}

/// More contents than may be in memory. The last messages in the log fall due first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contents_that_do_not_fit_into_memory_are_read_again_before_they_are_due() -> Done {
    const COUNT: usize = 160;
    const SIZE: usize = 600_000;
    let (broker, topic, name) = (connect().await?, fresh("large"), subscription("worker"));
    broker.declare(&Topology::new().queue(topic.clone(), FOUR).subscription(name.clone(), [topic.clone()])).await?;
    let producer = broker.producer(ProducerOptions::default()).await?;
    let consumer = Consuming::start(&broker, &name, std::slice::from_ref(&topic)).await?;
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH)?;
    let mut expected = std::collections::BTreeSet::new();
    for i in 0..COUNT {
        let due = now + Duration::from_secs(20) - Duration::from_millis(20 * i as u64);
        let due = partitura_broker::Timestamp::from_millis(due.as_millis() as u64);
        let message = Message::new(topic.clone(), format!("{i}"), vec![i as u8; SIZE]).key(format!("k{i}"));
        expected.insert(i.to_string());
        producer.publish(vec![message.not_before(due)]).await.remove(0)?;
    }
    Consuming::until(&[&consumer], &expected).await
}
