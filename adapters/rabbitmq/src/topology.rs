//! Declares topics and subscriptions: missing ones are created, existing ones are compared.

use std::sync::Arc;

use futures::future::try_join_all;
use lapin::Channel;
use lapin::types::AMQPValue;
use partitura_adapter_kit::topic_differs;
use partitura_broker::{
    DeclareMode, Error, ErrorKind, Ordering, Partition, Result, Subscription, SubscriptionName, Topic, TopicName,
    Topology,
};

use crate::client::Connector;
use crate::core::Core;
use crate::queues::{self, NewQueue};
use crate::topics::{self, Topics};
use crate::{delay, names};

/// Creates or verifies a topology.
pub(crate) async fn declare(core: Arc<Core>, topology: Topology) -> Result<()> {
    topology.validate()?;
    match topology.mode {
        DeclareMode::Create => create(&core.control, &core.topics, &topology).await,
        DeclareMode::Verify => verify(&core.control, &core.topics, &topology).await,
    }
}

async fn create(connector: &Arc<Connector>, topics: &Topics, topology: &Topology) -> Result<()> {
    let channel = connector.channel().await?;
    if !delay::exists(connector).await? {
        delay::create(&channel).await?;
    }
    for topic in &topology.topics {
        topics::create(&channel, topic).await?;
        delay::create_due(&channel, &topic.name).await?;
        topics.learn(topic.clone());
    }
    for subscription in &topology.subscriptions {
        for name in &subscription.topics {
            let topic = topic_of(topics, subscription, name).await?;
            create_queues(&channel, &subscription.name, &topic).await?;
        }
    }
    Ok(())
}

/// Finds a topic of a subscription, and checks that it has the ordering of the others.
async fn topic_of(topics: &Topics, subscription: &Subscription, name: &TopicName) -> Result<Topic> {
    let topic = topics.get(name, "declare").await?;
    if let Some(first) = subscription.topics.first().filter(|first| *first != name) {
        let first = topics.get(first, "declare").await?;
        if first.ordering != topic.ordering {
            let message = format!(
                "covers {} ({:?}) and {name} ({:?}); the topics of one subscription need the same ordering",
                first.name, first.ordering, topic.ordering
            );
            return Err(Error::new(ErrorKind::InvalidArgument, "declare", message).of(&subscription.name));
        }
    }
    Ok(topic)
}

async fn create_queues(channel: &Channel, subscription: &SubscriptionName, topic: &Topic) -> Result<()> {
    let mut arguments = queues::quorum();
    if matches!(topic.ordering, Ordering::ByKey { .. }) {
        // The owner of a partition has its lock. In addition, this keeps the broker from serving the next owner
        // before it has taken back the messages of the previous one.
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    let exchange = names::exchange(&topic.name);
    let queues = (0..topic.ordering.partitions()).map(|partition| {
        let name = names::queue(&topic.name, subscription, Partition(partition));
        let (arguments, routing_key) = (arguments.clone(), partition.to_string());
        queues::create(channel, NewQueue { name, arguments, exchange: &exchange, routing_key })
    });
    try_join_all(queues).await.map(drop)
}

async fn verify(connector: &Arc<Connector>, topics: &Topics, topology: &Topology) -> Result<()> {
    for topic in &topology.topics {
        let found = topics::find(connector.clone(), topic.name.clone(), "declare").await?;
        if found != *topic {
            return Err(topic_differs(topic, &found));
        }
        queues::check_exists(connector, &names::due(&topic.name), &topic.name, "declare").await?;
        topics.learn(found);
    }
    for subscription in &topology.subscriptions {
        for name in &subscription.topics {
            let topic = topic_of(topics, subscription, name).await?;
            for partition in 0..topic.ordering.partitions() {
                let queue = names::queue(name, &subscription.name, Partition(partition));
                queues::check_exists(connector, &queue, &subscription.name, "declare").await?;
            }
        }
    }
    Ok(())
}
