//! Tests of Kafka that are not in the conformance suite, on a real broker.

mod consuming;
mod grown;
mod recreated;
mod timers;

use std::time::Duration;

use partitura_broker::{
    Broker, Consumer, ConsumerOptions, ErrorKind, Event, Message, Ordering, ProducerOptions, SubscriptionName,
    TopicName, Topology,
};
use partitura_kafka::{Kafka, Options};
use partitura_servers::{Kind, Server};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

type Done = Result<(), Box<dyn std::error::Error>>;

const FOUR: Ordering = Ordering::ByKey { partitions: 4 };

async fn connect() -> Result<Kafka, Box<dyn std::error::Error>> {
    let server = tokio::task::spawn_blocking(|| {
        let server = Server::new(Kind::Kafka);
        server.up().map(|()| server)
    });
    Ok(Kafka::connect(&server.await??.url(), Options::default()).await?)
}

fn fresh(name: &str) -> TopicName {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    TopicName::new(format!("it-{name}-{}", now.as_millis())).expect("a valid name")
}

fn subscription(name: &str) -> SubscriptionName {
    SubscriptionName::new(name).expect("a valid name")
}

/// Takes and settles the next messages.
async fn take(consumer: &mut dyn Consumer, count: usize) -> Result<Vec<Message>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    while all.len() < count {
        let event = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await??;
        if let Event::Deliveries(deliveries) = event {
            consumer.settle(&deliveries.iter().map(|delivery| delivery.token).collect::<Vec<_>>());
            all.extend(deliveries.into_iter().map(|delivery| delivery.message));
        }
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_is_reported_with_the_expected_and_the_found_value() -> Done {
    let (broker, topic) = (connect().await?, fresh("differs"));
    broker.declare(&Topology::new().queue(topic.clone(), FOUR)).await?;
    for (other, expected, found) in [
        (Topology::new().stream(topic.clone(), FOUR), "Stream", "Queue"),
        (Topology::new().queue(topic.clone(), Ordering::Shared), "Shared", "ByKey"),
        (Topology::new().queue(topic.clone(), Ordering::ByKey { partitions: 5 }), "5", "4"),
    ] {
        let error = broker.declare(&other.verify_only()).await.expect_err("it differs");
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{text}");
        assert!(text.contains(expected) && text.contains(found) && text.contains(topic.as_str()), "{text}");
    }
    broker.declare(&Topology::new().queue(topic, FOUR).verify_only()).await?;
    Ok(broker.close().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_would_lose_messages_by_time_is_refused() -> Done {
    let (broker, topic) = (connect().await?, fresh("retention"));
    broker.declare(&Topology::new().queue(topic.clone(), FOUR)).await?;
    let admin = broker.client().ok_or("the connection is open")?;
    let resource = rdkafka::admin::ResourceSpecifier::Topic(topic.as_str());
    let change = rdkafka::admin::AlterConfig::new(resource)
        .set("retention.ms", "60000")
        .set("min.compaction.lag.ms", "1")
        .set("max.message.bytes", "2097152");
    for result in admin.alter_configs(&[change], &AdminOptions::new()).await? {
        result.map_err(|(_, code)| code)?;
    }
    // The brokers return the change a moment later.
    let refused = async {
        loop {
            if let Err(error) = broker.declare(&Topology::new().queue(topic.clone(), FOUR)).await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(30), refused).await?;
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error:?}");
    assert!(error.to_string().contains("retention.ms"), "{error}");
    Ok(broker.close().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_of_a_stream_begins_at_its_declaration_and_declaring_again_does_not_move_it() -> Done {
    let (broker, topic) = (connect().await?, fresh("begins"));
    let stream = || Topology::new().stream(topic.clone(), FOUR);
    broker.declare(&stream()).await?;
    let producer = broker.producer(ProducerOptions::default()).await?;
    let publish = |id: &'static str| producer.publish(vec![Message::new(topic.clone(), id, id).key("k")]);
    publish("before").await.remove(0)?;
    let declared = stream().subscription(subscription("late"), [topic.clone()]);
    broker.declare(&declared).await?;
    publish("after").await.remove(0)?;
    broker.declare(&declared).await?;
    let mut consumer = broker.consumer(ConsumerOptions::new(subscription("late"), [topic.clone()])).await?;
    let got = take(&mut *consumer, 1).await?;
    assert_eq!(got[0].id.as_str(), "after");
    consumer.close().await?;
    Ok(broker.close().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_other_programs_on_topics_of_other_programs_are_delivered() -> Done {
    let (broker, topic) = (connect().await?, fresh("stranger"));
    let admin = broker.client().ok_or("the connection is open")?;
    let timers = format!("_partitura.timers.{topic}");
    let new = |name| NewTopic::new(name, 4, TopicReplication::Fixed(-1)).set("max.message.bytes", "2097152");
    let topics = [new(topic.as_str()).set("retention.ms", "-1"), new(&timers).set("cleanup.policy", "compact")];
    for result in admin.create_topics(&topics, &AdminOptions::new()).await? {
        result.map_err(|(_, code)| code)?;
    }
    let subscription = subscription("reader");
    broker
        .declare(&Topology::new().queue(topic.clone(), FOUR).subscription(subscription.clone(), [topic.clone()]))
        .await?;
    let name = topic.to_string();
    let url = tokio::task::spawn_blocking(|| Server::new(Kind::Kafka).url()).await?;
    let servers = url.trim_start_matches("kafka://").to_owned();
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = rdkafka::ClientConfig::new().set("bootstrap.servers", servers).create()?;
        let record = BaseRecord::to(&name).partition(2).key("k").payload("v");
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(Duration::from_secs(20))
    })
    .await??;
    let mut consumer = broker.consumer(ConsumerOptions::new(subscription, [topic.clone()])).await?;
    let got = take(&mut *consumer, 1).await?;
    assert_eq!(got[0].id.as_str(), format!("{topic}/2/0"));
    assert_eq!((got[0].key.as_deref(), &got[0].payload[..]), (Some(&b"k"[..]), &b"v"[..]));
    consumer.close().await?;
    Ok(broker.close().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_server_is_reported_as_disconnected() -> Done {
    let error = Kafka::connect("kafka://127.0.0.1:1", Options::default()).await.expect_err("no server listens there");
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    let wrong = Kafka::connect("http://127.0.0.1:1", Options::default()).await.expect_err("not Kafka");
    assert_eq!(wrong.kind(), ErrorKind::InvalidArgument);
    Ok(())
}
