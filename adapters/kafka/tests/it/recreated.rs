//! A topic that is deleted and created again while it is consumed.

use std::time::Duration;

use partitura_broker::{Broker, ErrorKind, Ordering, ProducerOptions, SubscriptionName, TopicName, Topology};
use partitura_kafka::Kafka;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use super::consuming::{Consuming, TIME_LIMIT, publish};
use super::{Done, FOUR, connect, fresh, subscription};

async fn delete(broker: &Kafka, topic: &TopicName) -> Done {
    let admin = broker.client().ok_or("the connection is open")?;
    for result in admin.delete_topics(&[topic.as_str()], &AdminOptions::new()).await? {
        result.map_err(|(_, code)| code)?;
    }
    Ok(())
}

async fn declare(broker: &Kafka, topology: &Topology) -> Done {
    let began = std::time::Instant::now();
    loop {
        match broker.declare(topology).await {
            Ok(()) => break,
            // A broker may need longer on a busy machine.
            Err(error) if began.elapsed() < TIME_LIMIT && error.kind() == ErrorKind::Timeout => {}
            // The name is free a moment after the topic is gone.
            Err(error) if began.elapsed() < TIME_LIMIT && error.to_string().contains("marked for deletion") => {}
            Err(error) => return Err(error.into()),
        }
    }
    println!("declared after {:?}", began.elapsed());
    Ok(())
}

async fn is_followed(ordering: Ordering, consumers: usize) -> Done {
    let (broker, topic, name) = (connect().await?, fresh("recreated"), subscription("worker"));
    let topology = Topology::new().queue(topic.clone(), ordering).subscription(name.clone(), [topic.clone()]);
    broker.declare(&topology).await?;
    let producer = broker.producer(ProducerOptions::default()).await?;
    let mut all = Vec::new();
    for _ in 0..consumers {
        all.push(Consuming::start(&broker, &name, std::slice::from_ref(&topic)).await?);
    }
    let all: Vec<&Consuming> = all.iter().collect();
    let old = publish(&*producer, &topic, "old", 600, None).await?;
    Consuming::until(&all, &old).await?;
    delete(&broker, &topic).await?;
    declare(&broker, &topology).await?;
    // Enough messages that the new topic is longer than the old one before the consumers notice.
    let mut new = publish(&*producer, &topic, "new", 4_000, None).await?;
    new.extend(publish(&*producer, &topic, "due", 80, Some(Duration::from_secs(2))).await?);
    Consuming::until(&all, &new).await
}

/// The number of partitions of a topic whose logs the broker does not make or replace in a moment.
const MANY: u32 = 30;

/// The number of records of a topic, once it is the new one, which has fewer than `most`.
async fn records(broker: &Kafka, topic: &TopicName, most: i64) -> Result<i64, Box<dyn std::error::Error>> {
    let (admin, topic) = (broker.client().ok_or("the connection is open")?, topic.to_string());
    let count = move || {
        let began = std::time::Instant::now();
        loop {
            let ends = (0..MANY as i32).map(|partition| admin.inner().fetch_watermarks(&topic, partition, TIME_LIMIT));
            // There is an error while the topic is not there.
            let sum = ends.map(|ends| ends.map(|(_, end)| end)).sum::<Result<i64, _>>().unwrap_or(most);
            if sum < most || began.elapsed() > TIME_LIMIT {
                return sum;
            }
        }
    };
    Ok(tokio::task::spawn_blocking(count).await?)
}

/// Creates another topic. While the broker makes its logs, it still shows a topic that is deleted meanwhile, and then
/// learns at once that it is deleted and there again.
async fn keep_busy(broker: &Kafka) -> Result<TopicName, Box<dyn std::error::Error>> {
    let (admin, other) = (broker.client().ok_or("the connection is open")?, fresh("busy"));
    let busy = NewTopic::new(other.as_str(), i32::try_from(MANY)?, TopicReplication::Fixed(-1));
    admin.create_topics([&busy], &AdminOptions::new()).await?;
    Ok(other)
}

/// Joins as soon as that is possible.
async fn join(
    broker: &Kafka,
    name: &SubscriptionName,
    topic: &TopicName,
) -> Result<Consuming, Box<dyn std::error::Error>> {
    let began = std::time::Instant::now();
    loop {
        match Consuming::start(broker, name, std::slice::from_ref(topic)).await {
            Err(_) if began.elapsed() < TIME_LIMIT => tokio::time::sleep(Duration::from_millis(10)).await,
            started => return started,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_joins_while_a_topic_is_replaced_gets_its_messages() -> Done {
    let (broker, topic, name) = (connect().await?, fresh("between"), subscription("worker"));
    let topology = Topology::new().queue(topic.clone(), FOUR).subscription(name.clone(), [topic.clone()]);
    let producer = broker.producer(ProducerOptions::default()).await?;
    broker.declare(&topology).await?;
    for round in 0..3 {
        let former = join(&broker, &name, &topic).await?;
        let old = publish(&*producer, &topic, &format!("old-{round}"), 600, None).await?;
        Consuming::until(&[&former], &old).await?;
        drop(former);
        let other = keep_busy(&broker).await?;
        delete(&broker, &topic).await?;
        // One comes while the brokers still show the deleted topic, and one a moment later.
        let first = join(&broker, &name, &topic);
        let later = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            join(&broker, &name, &topic).await
        };
        let (first, declared, later) = tokio::join!(first, declare(&broker, &topology), later);
        declared?;
        let new = publish(&*producer, &topic, &format!("new-{round}"), 400, None).await?;
        Consuming::until(&[&first?, &later?], &new).await.map_err(|error| format!("round {round}: {error}"))?;
        delete(&broker, &other).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_after_a_topic_was_declared_again_is_in_the_new_log() -> Done {
    const OLD: usize = 1_000;
    const NEW: usize = 400;
    let (broker, topic) = (connect().await?, fresh("replaced"));
    let topology = Topology::new().queue(topic.clone(), Ordering::ByKey { partitions: MANY });
    let producer = broker.producer(ProducerOptions::default()).await?;
    broker.declare(&topology).await?;
    for round in 0..3 {
        publish(&*producer, &topic, "old", OLD, None).await?;
        let other = keep_busy(&broker).await?;
        delete(&broker, &topic).await?;
        declare(&broker, &topology).await?;
        publish(&*producer, &topic, "new", NEW, None).await?;
        let found = records(&broker, &topic, i64::try_from(OLD)?).await?;
        assert!(found >= i64::try_from(NEW)?, "{found} of {NEW} confirmed messages are there, in round {round}");
        delete(&broker, &other).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_of_a_recreated_topic_counts_as_settled() -> Done {
    is_followed(FOUR, 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_of_a_recreated_shared_topic_counts_as_settled() -> Done {
    is_followed(Ordering::Shared, 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_ignores_places_of_a_deleted_topic() -> Done {
    let (broker, topic, name) = (connect().await?, fresh("recreated-late"), subscription("worker"));
    let topology = Topology::new().queue(topic.clone(), FOUR).subscription(name.clone(), [topic.clone()]);
    broker.declare(&topology).await?;
    let producer = broker.producer(ProducerOptions::default()).await?;
    let first = Consuming::start(&broker, &name, std::slice::from_ref(&topic)).await?;
    let old = publish(&*producer, &topic, "old", 600, None).await?;
    Consuming::until(&[&first], &old).await?;
    delete(&broker, &topic).await?;
    // Created as by another program, without our label.
    let admin = broker.client().ok_or("the connection is open")?;
    let new = NewTopic::new(topic.as_str(), 4, TopicReplication::Fixed(-1));
    let new = new.set("max.message.bytes", "2097152").set("retention.ms", "-1");
    let began = std::time::Instant::now();
    while admin.create_topics([&new], &AdminOptions::new()).await?.into_iter().any(|result| result.is_err()) {
        assert!(began.elapsed() < TIME_LIMIT, "the name is still taken");
    }
    let new = publish(&*producer, &topic, "new", 4_000, None).await?;
    // Leaves time for commits into the new topic.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let second = Consuming::start(&broker, &name, std::slice::from_ref(&topic)).await?;
    first.task.abort();
    Consuming::until(&[&first, &second], &new).await
}
