//! Partitions that an operator adds to a topic while it is consumed.

use std::collections::BTreeSet;
use std::time::Duration;

use partitura_broker::{Broker, ErrorKind, Ordering, ProducerOptions, TopicName, Topology};
use partitura_kafka::Kafka;
use rdkafka::admin::{AdminOptions, NewPartitions};

use super::consuming::{Consuming, TIME_LIMIT, publish};
use super::{Done, connect, fresh, subscription};

async fn grow(broker: &Kafka, topic: &str, count: usize) -> Done {
    let admin = broker.client().ok_or("the connection is open")?;
    for result in admin.create_partitions(&[NewPartitions::new(topic, count)], &AdminOptions::new()).await? {
        result.map_err(|(_, code)| code)?;
    }
    Ok(())
}

/// A topic, and its parking topic.
fn topology(topic: &TopicName, parking: &TopicName, partitions: u32) -> Topology {
    let ordering = Ordering::ByKey { partitions };
    let topics = Topology::new().queue(topic.clone(), ordering).queue(parking.clone(), ordering);
    topics.subscription(subscription("worker"), [topic.clone(), parking.clone()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn incomplete_partitions_are_owned_once_all_topics_have_them_and_the_others_at_once() -> Done {
    let (broker, topic) = (connect().await?, fresh("grown"));
    let (parking, name) = (TopicName::new(format!("{topic}.parking"))?, subscription("worker"));
    broker.declare(&topology(&topic, &parking, 4)).await?;
    let topics = [topic.clone(), parking.clone()];
    let (first, second) =
        (Consuming::start(&broker, &name, &topics).await?, Consuming::start(&broker, &name, &topics).await?);
    let before = broker.producer(ProducerOptions::default()).await?;
    Consuming::until(&[&first, &second], &publish(&*before, &topic, "before", 200, None).await?).await?;
    grow(&broker, topic.as_str(), 6).await?;
    // A third consumer joins: the group has to agree again, with partitions that cannot be owned.
    let later = connect().await?;
    let third = Consuming::start(&later, &name, &topics).await?;
    let all = [&first, &second, &third];
    // A producer that knew the topic before uses the partitions that it had.
    Consuming::until(&all, &publish(&*before, &topic, "old", 600, None).await?).await?;
    Consuming::until(&all, &publish(&*before, &parking, "parked", 100, None).await?).await?;
    let error = later.declare(&topology(&topic, &parking, 6).verify_only()).await.expect_err("parking has 4");
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    // Publishes into all six.
    let after = later.producer(ProducerOptions::default()).await?;
    let new = publish(&*after, &topic, "new", 600, None).await?;
    later.declare(&topology(&topic, &parking, 6)).await?;
    Consuming::until(&all, &new).await?;
    let due = publish(&*after, &topic, "due", 100, Some(Duration::from_secs(1))).await?;
    Consuming::until(&all, &due).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_follows_none_is_not_given_partitions() -> Done {
    let (broker, topic) = (connect().await?, fresh("grown-not"));
    let parking = TopicName::new(format!("{topic}.parking"))?;
    broker.declare(&topology(&topic, &parking, 4)).await?;
    for (grown, count) in [(None, 5), (Some(parking.as_str()), 5)] {
        if let Some(grown) = grown {
            grow(&broker, grown, count).await?;
        }
        let error = broker.declare(&topology(&topic, &parking, 5)).await.expect_err("the topic has 4");
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    }
    let kept: BTreeSet<u32> = broker
        .producer(ProducerOptions::default())
        .await?
        .publish(
            (0..64)
                .map(|i| partitura_broker::Message::new(topic.clone(), format!("{i}"), "").key(format!("k{i}")))
                .collect(),
        )
        .await
        .into_iter()
        .map(|receipt| receipt.map(|receipt| receipt.partition.0))
        .collect::<Result<_, _>>()?;
    assert_eq!(kept, (0..4).collect());
    Ok(())
}

/// Its producer has to learn of them, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_messages_of_added_partitions_are_forwarded_by_a_process_that_knew_the_topic_before() -> Done {
    let (broker, topic, name) = (connect().await?, fresh("grown-due"), subscription("worker"));
    let topology = |partitions| {
        let ordering = Ordering::ByKey { partitions };
        Topology::new().queue(topic.clone(), ordering).subscription(name.clone(), [topic.clone()])
    };
    broker.declare(&topology(4)).await?;
    let only = Consuming::start(&broker, &name, std::slice::from_ref(&topic)).await?;
    let before = broker.producer(ProducerOptions::default()).await?;
    Consuming::until(&[&only], &publish(&*before, &topic, "before", 200, None).await?).await?;
    grow(&broker, topic.as_str(), 6).await?;
    let later = connect().await?;
    let began = std::time::Instant::now();
    // The brokers know of the partitions a moment later.
    while let Err(error) = later.declare(&topology(6)).await {
        assert!(error.kind() == ErrorKind::Incompatible && began.elapsed() < TIME_LIMIT, "{error}");
    }
    let after = later.producer(ProducerOptions::default()).await?;
    let due = publish(&*after, &topic, "due", 100, Some(Duration::from_secs(1))).await?;
    Consuming::until(&[&only], &due).await
}
