//! Declares topics and subscriptions: missing ones are created, existing ones are compared.

use partitura_adapter_kit::topic_differs;
use partitura_broker::{
    DeclareMode, Error, ErrorKind, Ordering, Partition, Result, Subscription, SubscriptionName, Topic, TopicName,
    Topology,
};

use crate::core::Core;
use crate::management::{self, Answer, Kind, NewQueue, Request, unable};
use crate::{names, topics, wire};

const DECLARE: &str = "declare";

/// Creates or verifies a topology.
pub(crate) async fn declare(core: &Core, topology: &Topology) -> Result<()> {
    topology.validate()?;
    match topology.mode {
        DeclareMode::Create => create(core, topology).await,
        DeclareMode::Verify => verify(core, topology).await,
    }
}

async fn create(core: &Core, topology: &Topology) -> Result<()> {
    let mut requests = vec![Request::create_address(names::SYNC)];
    for topic in &topology.topics {
        requests.push(Request::create_address(&names::address(&topic.name)));
        requests.push(Request::create_queue(&due(&topic.name)));
        // This one comes last: a topic that has it is complete.
        requests.push(Request::create_queue(&topics::description(topic)));
    }
    accept_existing(core.management.ask_all(DECLARE, requests).await?)?;
    for topic in &topology.topics {
        expect(core, topic).await?;
    }
    let mut requests = Vec::new();
    for subscription in &topology.subscriptions {
        for name in &subscription.topics {
            let topic = topic_of(core, subscription, name).await?;
            requests.push(Request::create_address(&names::members(name, &subscription.name)));
            requests.extend(queues(&topic, &subscription.name).iter().map(Request::create_queue));
        }
    }
    accept_existing(core.management.ask_all(DECLARE, requests).await?)
}

async fn verify(core: &Core, topology: &Topology) -> Result<()> {
    for topic in &topology.topics {
        expect(core, topic).await?;
        expect_queue(core, &topic.name.to_string(), &names::due(&topic.name), DECLARE).await?;
    }
    for subscription in &topology.subscriptions {
        for name in &subscription.topics {
            let topic = topic_of(core, subscription, name).await?;
            for queue in queues(&topic, &subscription.name) {
                expect_queue(core, &subscription.name.to_string(), &queue.name, DECLARE).await?;
            }
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

/// Checks that a queue exists.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound), about `subject`.
pub(crate) async fn expect_queue(core: &Core, subject: &str, queue: &str, operation: &'static str) -> Result<()> {
    let found = core.management.ask(operation, &subject, Request::filter(queue)).await;
    found.map(drop).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let message = format!("there is no queue {queue:?}: it was never declared, or an operator deleted it");
            Error::new(ErrorKind::NotFound, operation, message).of(subject).because(error)
        }
        _ => error,
    })
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

/// The queue of the delayed messages of a topic. One of its readers forwards at a time, in the order of the moments.
fn due(topic: &TopicName) -> NewQueue {
    let due = names::due(topic);
    NewQueue { name: due.clone(), address: due, filter: None, kind: Kind::OneActive }
}

/// The queues of a subscription to a topic, one for each partition.
fn queues(topic: &Topic, subscription: &SubscriptionName) -> Vec<NewQueue> {
    let queue = |partition| NewQueue {
        name: names::queue(&topic.name, subscription, Partition(partition)),
        address: names::address(&topic.name),
        ..NewQueue::default()
    };
    match topic.ordering {
        Ordering::Shared => vec![queue(0)],
        Ordering::ByKey { partitions } => (0..partitions)
            .map(|partition| NewQueue {
                filter: Some(format!("{} = {partition}", wire::PARTITION)),
                kind: Kind::Exclusive,
                ..queue(partition)
            })
            .collect(),
    }
}

/// What exists already is not created again.
fn accept_existing(answers: Vec<Answer>) -> Result<()> {
    let refused = answers.into_iter().filter_map(std::result::Result::err).find(|why| !management::exists(why));
    refused.map_or(Ok(()), |why| Err(unable(DECLARE, &why)))
}
