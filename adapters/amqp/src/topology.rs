//! Declares topics and subscriptions: missing ones are created, existing ones are compared.

use partitura_adapter_kit::topic_differs;
use partitura_broker::{DeclareMode, Error, ErrorKind, Result, Subscription, Topic, TopicName, Topology};

use crate::core::Core;
use crate::profile::{DECLARE, Extent};

/// Creates or verifies a topology.
pub(crate) async fn declare(core: &Core, topology: &Topology) -> Result<()> {
    topology.validate()?;
    match topology.mode {
        DeclareMode::Create => create(core, topology).await,
        DeclareMode::Verify => verify(core, topology).await,
    }
}

async fn create(core: &Core, topology: &Topology) -> Result<()> {
    core.profile.create_topics(&topology.topics).await?;
    for topic in &topology.topics {
        expect(core, topic).await?;
    }
    let mut subscriptions = Vec::new();
    for subscription in &topology.subscriptions {
        for name in &subscription.topics {
            subscriptions.push((topic_of(core, subscription, name).await?, subscription.name.clone()));
        }
    }
    core.profile.create_subscriptions(&subscriptions).await
}

async fn verify(core: &Core, topology: &Topology) -> Result<()> {
    for topic in &topology.topics {
        expect(core, topic).await?;
        core.profile.expect_topic(topic, DECLARE).await?;
    }
    for subscription in &topology.subscriptions {
        for name in &subscription.topics {
            let topic = topic_of(core, subscription, name).await?;
            core.profile.expect_subscription(&topic, &subscription.name, Extent::All, DECLARE).await?;
        }
    }
    Ok(())
}

/// Looks a topic up at the broker, and compares it.
async fn expect(core: &Core, topic: &Topic) -> Result<()> {
    let found = core.topics.find(&topic.name, DECLARE).await?;
    if found != *topic {
        return Err(topic_differs(topic, &found));
    }
    core.topics.learn(found);
    Ok(())
}

/// Finds a topic of a subscription, and checks that it has the ordering of the others.
async fn topic_of(core: &Core, subscription: &Subscription, name: &TopicName) -> Result<Topic> {
    let topic = core.topics.get(name, DECLARE).await?;
    if let Some(first) = subscription.topics.first().filter(|first| *first != name) {
        let first = core.topics.get(first, DECLARE).await?;
        if first.ordering != topic.ordering {
            let message = format!(
                "covers {} ({:?}) and {name} ({:?}); the topics of one subscription need the same ordering",
                first.name, first.ordering, topic.ordering
            );
            return Err(Error::new(ErrorKind::InvalidArgument, DECLARE, message).of(&subscription.name));
        }
    }
    Ok(topic)
}
