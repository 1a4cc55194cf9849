//! Apache Artemis: queues are made by management messages, and each takes one reader.
//!
//! A queue describes each topic: the queue `partitura:orders:topic`, at the topic's address, has the filter
//! `partitura_topic = 'queue:8'`. No message has this property, so that the queue stays empty. The description is as
//! durable and as replicated as any queue, exists once, and every tool of the broker shows it.

use std::sync::Arc;

use async_trait::async_trait;
use fe2o3_amqp::types::primitives::Value;
use partitura_adapter_kit::{describe_topic, parse_topic};
use partitura_broker::{
    Capabilities, Delay, Durability, Error, ErrorKind, InboxAddress, Limits, Ordering, Partition, Result,
    SubscriptionName, Supports, Timestamp, Topic, TopicName,
};

use super::duties::{DECLARE, Due, Extent, Flush, Hearing, LATENESS, MAX_DELAY, Profile, Source, no_topic};
use crate::client::{Connector, Node};
use crate::management::{self, Answer, Kind, Management, NewQueue, Request, unable};
use crate::wire::Route;
use crate::{names, wire};

const CONSUME: &str = "consume";
const PROPERTY: &str = "partitura_topic = ";
/// The moment before which the broker keeps a message back, in milliseconds since the Unix epoch.
const DELIVERY_TIME: &str = "x-opt-delivery-time";
/// The largest number of messages that an earlier owner can have had: the number that a member may hold of one
/// partition.
const MAX_AHEAD: u64 = 4_096;

#[derive(Debug)]
pub(super) struct Artemis {
    management: Management,
}

impl Artemis {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self { management: Management::new(connector) }
    }

    async fn create(&self, requests: Vec<Request>) -> Result<()> {
        accept_existing(self.management.ask_all(DECLARE, requests).await?)
    }

    async fn expect_queue(&self, subject: &str, queue: &str, operation: &'static str) -> Result<()> {
        let found = self.management.ask(operation, &subject, Request::filter(queue)).await;
        found.map(drop).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let message = format!("there is no queue {queue:?}: it was never declared, or an operator deleted it");
                Error::new(ErrorKind::NotFound, operation, message).of(subject).because(error)
            }
            _ => error,
        })
    }

    /// Makes a queue of everything that is published to an address from now on, for one reader.
    async fn own(&self, address: String, limit: u32) -> Result<Source> {
        let queue = names::own_queue(&address, &InboxAddress::secret());
        let new = NewQueue { name: queue.clone(), address: address.clone(), filter: None, kind: Kind::Own(limit) };
        self.management.ask(CONSUME, &address, Request::create_queue(&new)).await?;
        Ok(source(&address, queue))
    }
}

#[async_trait]
impl Profile for Artemis {
    async fn capabilities(&self) -> Result<Capabilities> {
        let version = self.management.ask("connect", &"the broker", Request::version()).await?;
        Ok(Capabilities {
            broker: format!("artemis {}", version.as_str().unwrap_or("of unknown version")),
            // The journal is synced before a durable message is accepted, unless an operator has turned that off.
            durability: Durability::Synced,
            delay: Delay { native: true, max: MAX_DELAY, lateness: LATENESS },
            hold: None,
            limits: Limits::default(),
            supports: Supports::default(),
        })
    }

    async fn create_topics(&self, topics: &[Topic]) -> Result<()> {
        let mut requests = vec![Request::create_address(names::SYNC)];
        for topic in topics {
            requests.push(Request::create_address(&names::address(&topic.name)));
            requests.push(Request::create_queue(&due(&topic.name)));
            // This one comes last: a topic that has it is complete.
            requests.push(Request::create_queue(&description(topic)));
        }
        self.create(requests).await
    }

    async fn create_subscriptions(&self, subscriptions: &[(Topic, SubscriptionName)]) -> Result<()> {
        let mut requests = Vec::new();
        for (topic, subscription) in subscriptions {
            requests.push(Request::create_address(&names::members(&topic.name, subscription)));
            requests.extend(queues(topic, subscription).iter().map(Request::create_queue));
        }
        self.create(requests).await
    }

    async fn find_topic(&self, name: &TopicName, operation: &'static str) -> Result<Topic> {
        let request = Request::filter(&names::description(name));
        let filter = self.management.ask(operation, name, request).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => no_topic(name, operation).because(error),
            _ => error,
        })?;
        filter.as_str().and_then(|filter| parse(name, filter)).ok_or_else(|| {
            let queue = names::description(name);
            let message = format!("the queue {queue:?} does not describe a topic: its filter is {filter}");
            Error::new(ErrorKind::Incompatible, operation, message).of(name)
        })
    }

    async fn expect_topic(&self, topic: &Topic, operation: &'static str) -> Result<()> {
        self.expect_queue(topic.name.as_str(), &names::due(&topic.name), operation).await
    }

    async fn expect_subscription(
        &self,
        topic: &Topic,
        subscription: &SubscriptionName,
        extent: Extent,
        operation: &'static str,
    ) -> Result<()> {
        let mut queues = queues(topic, subscription);
        if extent == Extent::Some {
            queues.truncate(1);
        }
        for queue in queues {
            self.expect_queue(subscription.as_str(), &queue.name, operation).await?;
        }
        Ok(())
    }

    fn route(&self, topic: &TopicName, partition: Partition, not_before: Option<Timestamp>) -> Route {
        let to = if not_before.is_some() { names::due(topic) } else { names::address(topic) };
        let annotation = not_before.map(|due| (DELIVERY_TIME, Value::Long(wire::millis(due))));
        Route { partition, annotation, ..Route::to(to) }
    }

    fn queue(&self, topic: &Topic, subscription: &SubscriptionName, partition: Partition) -> Source {
        let marks = topic.ordering == Ordering::Shared;
        let queue = names::queue(&topic.name, subscription, partition);
        Source { marks, ..source(&names::address(&topic.name), queue) }
    }

    /// No other can have the queue now, so that an earlier owner can have had no more messages than are in it. The
    /// broker says it only of messages whose reader died.
    async fn doubted(&self, queue: &Source) -> Result<usize> {
        let count = self.management.ask(CONSUME, &queue.name, Request::message_count(&queue.name)).await?;
        Ok(usize::try_from(count.as_u64().unwrap_or(MAX_AHEAD).min(MAX_AHEAD)).unwrap_or(usize::MAX))
    }

    fn due(&self, topic: &TopicName) -> Option<Due> {
        let due = names::due(topic);
        Some(Due { source: source(&due.clone(), due), keeps_back: true })
    }

    async fn listen(&self, topic: &TopicName, limit: u32) -> Result<Source> {
        self.own(names::address(topic), limit).await
    }

    fn heartbeat(&self, topic: &TopicName, subscription: &SubscriptionName) -> Route {
        Route::to(names::members(topic, subscription))
    }

    async fn hearing(&self, topic: &TopicName, subscription: &SubscriptionName, limit: u32) -> Result<Hearing> {
        self.own(names::members(topic, subscription), limit).await.map(|source| Hearing::Source(Box::new(source)))
    }

    fn inbox_address(&self, secret: &str) -> InboxAddress {
        InboxAddress::new(names::inbox(secret))
    }

    async fn inbox(&self, address: &InboxAddress, limit: u32) -> Result<Source> {
        let name = address.as_str().to_owned();
        let queue = NewQueue { name: name.clone(), address: name.clone(), filter: None, kind: Kind::Own(limit) };
        let answers = self.management.ask_all(CONSUME, vec![Request::create_queue(&queue)]).await?;
        accept_existing(answers)?;
        Ok(source(&name.clone(), name))
    }

    fn reply(&self, inbox: &InboxAddress) -> Option<Route> {
        names::is_inbox(inbox.as_str()).then(|| Route::to(inbox.as_str().to_owned()))
    }
}

fn source(address: &str, queue: String) -> Source {
    let node = Node::of_its_own(names::qualified(address, &queue));
    Source::new(queue, node, Flush::Message(Route::to(names::SYNC.to_owned())))
}

/// The queue that describes a topic.
fn description(topic: &Topic) -> NewQueue {
    let filter = Some(format!("{PROPERTY}'{}'", describe_topic(topic)));
    NewQueue {
        name: names::description(&topic.name),
        address: names::address(&topic.name),
        filter,
        ..NewQueue::default()
    }
}

fn parse(name: &TopicName, filter: &str) -> Option<Topic> {
    parse_topic(name, filter.strip_prefix(PROPERTY)?.strip_prefix('\'')?.strip_suffix('\'')?)
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

/// Queues that exist already are not created again.
fn accept_existing(answers: Vec<Answer>) -> Result<()> {
    let refused = answers.into_iter().filter_map(std::result::Result::err).find(|why| !management::exists(why));
    refused.map_or(Ok(()), |why| Err(unable(DECLARE, &why)))
}

#[cfg(test)]
mod tests {
    use partitura_broker::TopicKind;

    use super::*;

    #[test]
    fn a_topic_is_read_back_from_its_filter() {
        let name = TopicName::new("orders").expect("a name");
        let topic = Topic { name: name.clone(), kind: TopicKind::Queue, ordering: Ordering::ByKey { partitions: 8 } };
        let filter = description(&topic).filter.expect("a filter");
        assert_eq!(filter, "partitura_topic = 'queue:8'");
        assert_eq!(parse(&name, &filter), Some(topic));
        for strange in ["partitura_topic = 'pile:8'", "partitura_topic = 'queue'", "x = 1", ""] {
            assert_eq!(parse(&name, strange), None, "{strange}");
        }
    }
}
