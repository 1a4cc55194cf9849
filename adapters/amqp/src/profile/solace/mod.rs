//! Solace: an operator makes the queues, and each of them takes one consumer.
//!
//! AMQP clients there can neither make queues with settings nor subscribe a queue to a topic. So this verifies what an
//! operator has made by [`commands`]. A queue describes each topic by its first message, which nobody settles.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::primitives::Value;
use partitura_adapter_kit::{Backoff, describe_topic, parse_topic};
use partitura_broker::{
    Capabilities, Delay, Durability, Error, ErrorKind, InboxAddress, Limits, Partition, Result, SubscriptionName,
    Supports, Timestamp, Topic, TopicName,
};
use tokio::time::{sleep, timeout};

use super::duties::{DECLARE, Due, Extent, Flush, Hearing, LATENESS, MAX_DELAY, Profile, Source, no_topic};
use crate::client::{Connector, Node, answer, receiver, sender, uncancelled};
use crate::wire::{self, Route};

pub(super) mod commands;
mod names;

use self::names::{description, due, members, messages, queue};

/// The topic of messages that ask whether everything before them was handled. No queue has it.
const SYNC: &str = "topic://partitura/sync";
/// The beginning of the topic of every inbox.
const INBOX: &str = "topic://partitura/i/";
/// The longest name of a queue.
const MAX_QUEUE: usize = 200;
/// The limit for the broker to send the first message of a queue. After it the queue counts as empty.
const EMPTY_AFTER: Duration = Duration::from_secs(3);
/// The waits for another process that looks at the same queue.
const BUSY_BACKOFF: Backoff = Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(500) };
/// The number of attempts.
const BUSY_ATTEMPTS: u32 = 60;

#[derive(Debug)]
pub(super) struct Solace {
    connector: Arc<Connector>,
}

impl Solace {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self { connector }
    }

    /// Binds to a queue and leaves it again.
    async fn expect_queue(&self, subject: &str, queue: &str, operation: &'static str) -> Result<()> {
        let (connector, node) = (self.connector.clone(), node(queue));
        let bound = uncancelled(async move {
            let mut session = connector.session(operation).await?;
            let receiver = receiver(&mut session, operation, node).await;
            if let Ok(receiver) = receiver {
                let _ = answer(operation, receiver.close()).await?;
            } else {
                receiver.map(drop)?;
            }
            let _ = answer(operation, session.end()).await?;
            Ok(())
        });
        match bound.await {
            // It has a consumer, and so is there.
            Err(error) if error.kind() == ErrorKind::Busy => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let message = format!("there is no queue {queue:?}; an operator makes it, see docs/brokers/amqp.md");
                Err(Error::new(ErrorKind::NotFound, operation, message).of(subject).because(error))
            }
            bound => bound,
        }
    }

    /// Reads the first message of the queue that describes a topic. Other processes that read it wait meanwhile.
    async fn description(&self, name: &TopicName, operation: &'static str) -> Result<Option<String>> {
        for attempt in 1..=BUSY_ATTEMPTS {
            let (connector, node) = (self.connector.clone(), node(&description(name)));
            match uncancelled(first_message(connector, node, operation)).await {
                Err(error) if error.kind() == ErrorKind::Busy => sleep(BUSY_BACKOFF.delay(attempt, 0)).await,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let queue = description(name);
                    let message =
                        format!("there is no queue {queue:?}: an operator makes it, see docs/brokers/amqp.md");
                    return Err(Error::new(ErrorKind::NotFound, operation, message).of(name).because(error));
                }
                read => return read,
            }
        }
        let message = format!("the queue {:?} always has a consumer", description(name));
        Err(Error::new(ErrorKind::Timeout, operation, message).of(name))
    }

    /// Describes a topic, unless it is described. Of two that do it at once, the first message counts for both.
    async fn describe(&self, topic: &Topic) -> Result<()> {
        if self.description(&topic.name, DECLARE).await?.is_some() {
            return Ok(());
        }
        let (connector, queue) = (self.connector.clone(), format!("queue://{}", description(&topic.name)));
        let text = describe_topic(topic);
        uncancelled(async move {
            let mut session = connector.session(DECLARE).await?;
            let mut sender = sender(&mut session, DECLARE, Some(&queue)).await?;
            let mut message = wire::brief(Route::to(queue), text.as_bytes());
            message.header = Some(wire::durable());
            let outcome = answer(DECLARE, sender.send(message)).await?;
            let outcome = outcome.map_err(|error| connector.explain(DECLARE, error))?;
            let _ = answer(DECLARE, session.end()).await?;
            if outcome.is_accepted() {
                return Ok(());
            }
            let message = format!("the broker does not take the description of a topic: {outcome:?}");
            Err(Error::new(ErrorKind::Throttled, DECLARE, message))
        })
        .await
        .map_err(|error| error.of(&topic.name))
    }
}

/// Reads the first message of a queue, and leaves it there.
async fn first_message(connector: Arc<Connector>, node: Node, operation: &'static str) -> Result<Option<String>> {
    let mut session = connector.session(operation).await?;
    let mut receiver = receiver(&mut session, operation, node).await?;
    receiver.set_credit(1).await.map_err(|error| connector.explain(operation, error))?;
    let text = match timeout(EMPTY_AFTER, receiver.recv::<Body<Value>>()).await {
        Ok(received) => {
            let delivery = received.map_err(|error| connector.explain(operation, error))?;
            let payload = wire::payload(delivery.into_message().body);
            Some(String::from_utf8_lossy(&payload).into_owned())
        }
        Err(_) => None,
    };
    let _ = answer(operation, receiver.close()).await?;
    let _ = answer(operation, session.end()).await?;
    Ok(text)
}

#[async_trait]
impl Profile for Solace {
    async fn capabilities(&self) -> Result<Capabilities> {
        Ok(Capabilities {
            broker: "solace".to_owned(),
            // A persistent message is accepted when it is in the message spool.
            durability: Durability::Synced,
            delay: Delay { native: false, max: MAX_DELAY, lateness: LATENESS },
            hold: None,
            limits: Limits::default(),
            supports: Supports::default(),
        })
    }

    async fn create_topics(&self, topics: &[Topic]) -> Result<()> {
        for topic in topics {
            self.expect_topic(topic, DECLARE).await?;
            self.describe(topic).await?;
        }
        Ok(())
    }

    async fn find_topic(&self, name: &TopicName, operation: &'static str) -> Result<Topic> {
        let Some(text) = self.description(name, operation).await? else {
            return Err(no_topic(name, operation));
        };
        parse_topic(name, &text).ok_or_else(|| {
            let queue = description(name);
            let message = format!("the queue {queue:?} does not describe a topic: its first message is {text:?}");
            Error::new(ErrorKind::Incompatible, operation, message).of(name)
        })
    }

    async fn expect_topic(&self, topic: &Topic, operation: &'static str) -> Result<()> {
        self.expect_queue(topic.name.as_str(), &due(&topic.name), operation).await
    }

    async fn expect_subscription(
        &self,
        topic: &Topic,
        subscription: &SubscriptionName,
        extent: Extent,
        operation: &'static str,
    ) -> Result<()> {
        let partitions = if extent == Extent::Some { 1 } else { topic.ordering.partitions().max(1) };
        for partition in (0..partitions).map(Partition) {
            let queue = queue(&topic.name, subscription, partition);
            if queue.len() > MAX_QUEUE {
                let message = format!("the queue {queue:?} would have a name of more than {MAX_QUEUE} characters");
                return Err(Error::new(ErrorKind::InvalidArgument, operation, message).of(subscription));
            }
            self.expect_queue(subscription.as_str(), &queue, operation).await?;
        }
        Ok(())
    }

    fn route(&self, topic: &TopicName, partition: Partition, not_before: Option<Timestamp>) -> Route {
        let to = match not_before {
            Some(_) => format!("queue://{}", due(topic)),
            None => format!("topic://{}", messages(topic, &partition.to_string())),
        };
        Route { partition, ..Route::to(to) }
    }

    fn queue(&self, topic: &Topic, subscription: &SubscriptionName, partition: Partition) -> Source {
        source(queue(&topic.name, subscription, partition))
    }

    fn due(&self, topic: &TopicName) -> Option<Due> {
        Some(Due { source: source(due(topic)), keeps_back: false })
    }

    async fn listen(&self, topic: &TopicName, _limit: u32) -> Result<Source> {
        Ok(listening(messages(topic, "*")))
    }

    fn heartbeat(&self, topic: &TopicName, subscription: &SubscriptionName) -> Route {
        Route::to(format!("topic://{}", members(topic, subscription)))
    }

    async fn hearing(&self, topic: &TopicName, subscription: &SubscriptionName, _limit: u32) -> Result<Hearing> {
        Ok(Hearing::Source(Box::new(listening(members(topic, subscription)))))
    }

    fn inbox_address(&self, secret: &str) -> InboxAddress {
        InboxAddress::new(format!("{INBOX}{secret}"))
    }

    async fn inbox(&self, address: &InboxAddress, _limit: u32) -> Result<Source> {
        let node = Node::of_its_own(address.as_str().to_owned());
        Ok(Source::new(address.as_str().to_owned(), node, flush()))
    }

    fn reply(&self, inbox: &InboxAddress) -> Option<Route> {
        let is_inbox = inbox.as_str().strip_prefix(INBOX).is_some_and(InboxAddress::is_secret);
        is_inbox.then(|| Route::to(inbox.as_str().to_owned()))
    }
}

fn flush() -> Flush {
    Flush::Message(Route::to(SYNC.to_owned()))
}

fn node(queue: &str) -> Node {
    Node::durable(format!("queue://{queue}"))
}

fn source(queue: String) -> Source {
    Source::new(queue.clone(), node(&queue), flush())
}

/// Everything of a topic from now on: the broker makes a temporary endpoint for it.
fn listening(topic: String) -> Source {
    Source::new(topic.clone(), Node::of_its_own(format!("topic://{topic}")), flush())
}
