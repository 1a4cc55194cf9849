//! Declaring topics and subscriptions.

use std::collections::BTreeMap;
use std::sync::Arc;

use partitura_broker::{
    DeclareMode, Error, ErrorKind, Ordering, Partition, Result, SubscriptionName, Topic, TopicName, Topology,
};
use pulsar::proto::command_subscribe::SubType;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::command::Subscribe;
use crate::client::{Partitioned, Purpose};
use crate::core::Core;
use crate::names::{FullName, TIMERS};
use crate::topics::{missing, properties, read};

const OPERATION: &str = "declare";
/// The number of calls of the admin API that are under way at once.
const AT_ONCE: usize = 16;

/// Creates, or verifies. See [`Broker::declare`](partitura_broker::Broker::declare).
pub(crate) async fn declare(core: &Arc<Core>, topology: &Topology) -> Result<()> {
    topology.validate()?;
    let mode = topology.mode;
    let mut jobs: JoinSet<Result<()>> = JoinSet::new();
    for topic in topology.topics.clone() {
        let core = core.clone();
        next(&mut jobs, async move { declare_topic(&core, mode, topic).await }).await?;
    }
    all(&mut jobs).await?;
    for subscription in topology.subscriptions.clone() {
        for topic in subscription.topics {
            let (core, name) = (core.clone(), subscription.name.clone());
            next(&mut jobs, async move { declare_subscription(&core, mode, &topic, &name).await }).await?;
        }
    }
    all(&mut jobs).await
}

async fn declare_topic(core: &Core, mode: DeclareMode, topic: Topic) -> Result<()> {
    let name = core.topics.namespace().topic(&topic.name);
    let mut found = core.topics.admin().partitioned(OPERATION, &name).await?;
    if found.is_none() && mode == DeclareMode::Create {
        core.topics.admin().create(OPERATION, &name, &properties(&topic)).await?;
        // Another process may have been quicker, with another declaration.
        found = core.topics.admin().partitioned(OPERATION, &name).await?;
    }
    let found = found.ok_or_else(|| missing(OPERATION, &topic.name))?;
    compare(&topic, &read(OPERATION, &topic.name, &found)?)?;
    if mode == DeclareMode::Create {
        let timers = core.topics.namespace().timers(&topic.name);
        let one = Partitioned { partitions: 1, properties: BTreeMap::new() };
        core.topics.admin().create(OPERATION, &timers, &one).await?;
        subscribe(core, timers.partition(Partition(0)), TIMERS, SubType::Shared).await?;
    }
    core.topics.remember(topic);
    Ok(())
}

async fn declare_subscription(
    core: &Core,
    mode: DeclareMode,
    topic: &TopicName,
    subscription: &SubscriptionName,
) -> Result<()> {
    let found = core.topics.find(OPERATION, topic).await?;
    match mode {
        DeclareMode::Verify => core.topics.find_subscription(OPERATION, topic, subscription).await,
        DeclareMode::Create => {
            let partitions = (0..found.ordering.partitions()).map(Partition);
            let name = core.topics.namespace().topic(topic);
            let kind = if found.ordering == Ordering::Shared { SubType::Shared } else { SubType::Exclusive };
            for partition in partitions {
                subscribe(core, name.partition(partition), subscription.as_str(), kind).await?;
            }
            Ok(())
        }
    }
}

/// Creates a durable subscription, unless it exists. It begins with the next message that is published.
///
/// Uses the binary protocol. The admin API would set a subscription that another process creates at this moment to the
/// present end, past messages that were published meanwhile.
async fn subscribe(core: &Core, topic: FullName, subscription: &str, kind: SubType) -> Result<()> {
    if core.topics.admin().has_subscription(OPERATION, &topic, subscription).await? {
        return Ok(());
    }
    let connection = core.cluster.serving(OPERATION, &topic, Purpose::Consume).await?;
    let subscribe = Subscribe {
        topic: topic.to_string(),
        subscription: subscription.to_owned(),
        kind,
        durable: true,
        create: true,
    };
    let (to, _) = mpsc::unbounded_channel();
    match connection.subscribe(OPERATION, &subscribe, 0, to).await {
        Ok(registered) => registered.close(OPERATION).await,
        // It exists, and has a consumer.
        Err(error) if error.kind() == ErrorKind::Busy => Ok(()),
        Err(error) => Err(error.of(topic)),
    }
}
/// Starts another job when there is room for it.
async fn next(jobs: &mut JoinSet<Result<()>>, job: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    if jobs.len() >= AT_ONCE {
        done(jobs.join_next().await)?;
    }
    jobs.spawn(job);
    Ok(())
}

async fn all(jobs: &mut JoinSet<Result<()>>) -> Result<()> {
    while !jobs.is_empty() {
        done(jobs.join_next().await)?;
    }
    Ok(())
}

fn done(job: Option<Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    match job {
        Some(Err(stopped)) => {
            let message = "the runtime is shutting down";
            Err(Error::new(ErrorKind::Closed, OPERATION, message).because(stopped))
        }
        Some(Ok(result)) => result,
        None => Ok(()),
    }
}

fn compare(wanted: &Topic, found: &Topic) -> Result<()> {
    if wanted == found {
        return Ok(());
    }
    let message = format!(
        "the topic exists and differs: wanted is a {:?}, {:?}; there is a {:?}, {:?}",
        wanted.kind, wanted.ordering, found.kind, found.ordering
    );
    Err(Error::new(ErrorKind::Incompatible, OPERATION, message).of(&wanted.name))
}

#[cfg(test)]
mod tests {
    use partitura_broker::TopicKind;

    use super::*;

    fn topic(kind: TopicKind, ordering: Ordering) -> Topic {
        Topic { name: TopicName::new("orders").expect("a name"), kind, ordering }
    }

    #[test]
    fn a_different_or_foreign_topic_is_incompatible_and_the_error_says_why() {
        let wanted = topic(TopicKind::Queue, Ordering::ByKey { partitions: 4 });
        let found = topic(TopicKind::Queue, Ordering::ByKey { partitions: 8 });
        let error = compare(&wanted, &found).expect_err("they differ");
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains("partitions: 4") && error.to_string().contains("partitions: 8"), "{error}");
        let plain = Partitioned { partitions: 4, properties: BTreeMap::new() };
        assert_eq!(read(OPERATION, &wanted.name, &plain).expect_err("no properties").kind(), ErrorKind::Incompatible);
    }
}
