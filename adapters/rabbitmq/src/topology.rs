use std::sync::Arc;

use futures::future::try_join_all;
use lapin::Channel;
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use partitura_broker::{
    DeclareMode, Error, ErrorKind, Ordering, Partition, Result, Subscription, SubscriptionName, Topic, TopicName,
    Topology,
};

use crate::core::Core;
use crate::delay;
use crate::link::{Link, answer};
use crate::names;
use crate::topics::{self, Topics};

/// How often a message may come back before the broker would drop it: never, in practice. Without it, 4.0 and later drop
/// what twenty consumers died of.
pub(crate) const DELIVERY_LIMIT: i64 = i32::MAX as i64;

/// Creates or verifies a topology.
pub(crate) async fn declare(core: Arc<Core>, topology: Topology) -> Result<()> {
    topology.validate()?;
    match topology.mode {
        DeclareMode::Create => create(&core.control, &core.topics, &topology).await,
        DeclareMode::Verify => verify(&core.control, &core.topics, &topology).await,
    }
}

async fn create(link: &Arc<Link>, topics: &Topics, topology: &Topology) -> Result<()> {
    let channel = link.channel().await?;
    if !delay::exists(link).await? {
        delay::create(&channel).await?;
    }
    for topic in &topology.topics {
        topics::create(&channel, topic).await?;
        delay::create_due(&channel, &topic.name).await?;
        topics.learn(topic.clone());
    }
    for subscription in &topology.subscriptions {
        for name in &subscription.topics {
            let topic = ordered_alike(topics, subscription, name).await?;
            create_queues(&channel, &subscription.name, &topic).await?;
        }
    }
    Ok(())
}

/// A topic of a subscription, declared now or before.
async fn ordered_alike(topics: &Topics, subscription: &Subscription, name: &TopicName) -> Result<Topic> {
    let topic = topics.get(name, "declare").await?;
    if let Some(first) = subscription.topics.first().filter(|first| *first != name) {
        let first = topics.get(first, "declare").await?;
        if first.ordering != topic.ordering {
            let message = format!(
                "covers {} ({:?}) and {name} ({:?}); topics of one subscription are ordered alike",
                first.name, first.ordering, topic.ordering
            );
            return Err(Error::new(ErrorKind::InvalidArgument, "declare", message).of(&subscription.name));
        }
    }
    Ok(topic)
}

async fn create_queues(channel: &Channel, subscription: &SubscriptionName, topic: &Topic) -> Result<()> {
    let ordered = matches!(topic.ordering, Ordering::ByKey { .. });
    let mut arguments = quorum();
    if ordered {
        // Whoever owns a partition has its lock first. This keeps a successor from being served before the broker has taken
        // back what the owner before it held.
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    let exchange = names::exchange(&topic.name);
    let queues = (0..topic.ordering.partitions()).map(|partition| {
        let queue = names::queue(&topic.name, subscription, Partition(partition));
        create_queue(channel, queue, arguments.clone(), &exchange, partition.to_string())
    });
    try_join_all(queues).await.map(drop)
}

/// The arguments of a durable queue on as many nodes as the broker's default says.
pub(crate) fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    arguments
}

/// Creates a durable queue and binds it.
pub(crate) async fn create_queue(
    channel: &Channel,
    queue: String,
    arguments: FieldTable,
    exchange: &str,
    key: String,
) -> Result<()> {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let classify = |error| crate::error::classify(error, "declare").of(&queue);
    answer(channel.queue_declare(queue.as_str().into(), options, arguments)).await.map_err(classify)?;
    let bound = channel.queue_bind(
        queue.as_str().into(),
        exchange.into(),
        key.into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    answer(bound).await.map_err(classify)
}

async fn verify(link: &Arc<Link>, topics: &Topics, topology: &Topology) -> Result<()> {
    for topic in &topology.topics {
        let found = topics::find(link.clone(), topic.name.clone(), "declare").await?;
        if found != *topic {
            return Err(topics::differs(topic, &found));
        }
        exists(link, &names::due(&topic.name), &topic.name, "declare").await?;
        topics.learn(found);
    }
    for subscription in &topology.subscriptions {
        for name in &subscription.topics {
            let topic = ordered_alike(topics, subscription, name).await?;
            for partition in 0..topic.ordering.partitions() {
                let queue = names::queue(name, &subscription.name, Partition(partition));
                exists(link, &queue, &subscription.name, "declare").await?;
            }
        }
    }
    Ok(())
}

/// That a queue exists.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound), about `subject`.
pub(crate) async fn exists(
    link: &Link,
    queue: &str,
    subject: &(dyn std::fmt::Display + Sync),
    operation: &'static str,
) -> Result<()> {
    let channel = link.channel().await?;
    look_at(&channel, queue).await.map_err(|error| {
        let error = link.explain(error, operation);
        if error.kind() != ErrorKind::NotFound {
            return error.of(subject);
        }
        let message = format!("there is no queue {queue:?}: it was never declared, or somebody deleted it");
        Error::new(ErrorKind::NotFound, operation, message).of(subject).because(error)
    })
}

/// Asks for a queue without changing anything. It is answered behind everything that the channel sent before.
pub(crate) async fn look_at(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    answer(channel.queue_declare(queue.into(), options, FieldTable::default())).await.map(drop)
}
