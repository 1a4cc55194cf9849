//! Azure Service Bus: an operator makes topics and subscriptions, and a partition is a session.
//!
//! A session is the messages of one group. The broker gives it to one receiver at a time, and locks it. The lock is
//! renewed by requests, also while the receiver holds messages. The state of the session `TOPIC` of the queue
//! `partitura/topics` describes a topic.

use std::sync::Arc;

use async_trait::async_trait;
use fe2o3_amqp::types::primitives::{Binary, Timestamp as Moment, Value};
use partitura_adapter_kit::{Backoff, describe_topic, parse_topic};
use partitura_broker::{
    Capabilities, Delay, Durability, Error, ErrorKind, InboxAddress, Limits, Ordering, Partition, Result,
    SubscriptionName, Supports, Timestamp, Topic, TopicName,
};
use std::time::Duration;
use tokio::time::sleep;

use super::duties::{DECLARE, Due, Extent, Flush, Hearing, MAX_DELAY, Profile, Source, no_topic};
use crate::client::{Connector, Fields, Node, Requests, answer, receiver, uncancelled};
use crate::wire::{self, Route};

/// The moment at which the broker puts a message into its queue.
const ENQUEUE_TIME: &str = "x-opt-scheduled-enqueue-time";
/// The queue, with sessions, whose states describe topics.
const TOPICS: &str = "partitura/topics";
/// The queue, without sessions, of the heartbeats of all members.
const MEMBERS: &str = "partitura/members";
/// The queue, with sessions, of all inboxes.
const INBOX: &str = "partitura/inbox";
const GET: &str = "com.microsoft:get-session-state";
const SET: &str = "com.microsoft:set-session-state";
/// The longest name of a subscription.
const MAX_SUBSCRIPTION: usize = 50;
/// Bytes of a payload, so that the message has less than the 256 KiB that the standard tier takes.
const MAX_PAYLOAD: usize = 192 << 10;
/// The time for which a message of a shared topic is locked, if the operator sets the longest that is possible.
const LOCK: Duration = Duration::from_secs(5 * 60);
/// The time after which the broker drops a reply or a heartbeat that nobody has taken. A session takes messages whether
/// anybody ever reads it or not, so that replies to an inbox that is gone would stay.
const TIME_TO_LIVE: Duration = Duration::from_secs(60);
/// The waits for another process that looks at the same topic.
const BUSY_BACKOFF: Backoff = Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(500) };
/// The number of attempts.
const BUSY_ATTEMPTS: u32 = 60;

#[derive(Debug)]
pub(super) struct ServiceBus {
    connector: Arc<Connector>,
}

impl ServiceBus {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self { connector }
    }

    /// Reads the description of a topic, and writes one before if there is none. Others wait meanwhile.
    async fn description(
        &self,
        name: &TopicName,
        new: Option<String>,
        operation: &'static str,
    ) -> Result<Option<String>> {
        for attempt in 1..=BUSY_ATTEMPTS {
            let state = state(self.connector.clone(), name.to_string(), new.clone(), operation);
            match uncancelled(state).await {
                Err(error) if error.kind() == ErrorKind::Busy => sleep(BUSY_BACKOFF.delay(attempt, 0)).await,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let message =
                        format!("there is no queue {TOPICS:?}: an operator makes it, see docs/brokers/amqp.md");
                    return Err(Error::new(ErrorKind::NotFound, operation, message).of(name).because(error));
                }
                read => return read,
            }
        }
        let message = format!("the session {name} of the queue {TOPICS:?} is always locked");
        Err(Error::new(ErrorKind::Timeout, operation, message).of(name))
    }

    async fn expect_node(&self, subject: &str, node: &str, operation: &'static str) -> Result<()> {
        let (connector, asked) = (self.connector.clone(), management(node));
        let opened = uncancelled(async move {
            let mut session = connector.session(operation).await?;
            let opened = Requests::open(&mut session, operation, &asked).await.map(drop);
            let _ = answer(operation, session.end()).await?;
            opened
        });
        opened.await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let message = format!("there is no {node:?}; an operator makes it, see docs/brokers/amqp.md");
                Error::new(ErrorKind::NotFound, operation, message).of(subject).because(error)
            }
            _ => error.of(subject),
        })
    }
}

/// Reads the state of a session of [`TOPICS`], and sets it to `new` if there is none. The session is locked meanwhile.
async fn state(
    connector: Arc<Connector>,
    name: String,
    new: Option<String>,
    operation: &'static str,
) -> Result<Option<String>> {
    let mut session = connector.session(operation).await?;
    let node = Node { session: Some(name.clone()), ..Node::of_its_own(TOPICS.to_owned()) };
    let lock = receiver(&mut session, operation, node).await?;
    let mut requests = Requests::open(&mut session, operation, &management(TOPICS)).await?;
    let mut arguments = Fields::default();
    arguments.insert(text("session-id"), Value::String(name));
    let answered = requests.ask(&connector, operation, GET, arguments.clone()).await?;
    let mut found = match answered.get(&text("session-state")) {
        Some(Value::Binary(state)) => Some(String::from_utf8_lossy(state).into_owned()),
        _ => None,
    };
    if let (None, Some(new)) = (&found, new) {
        arguments.insert(text("session-state"), Value::Binary(Binary::from(new.clone().into_bytes())));
        requests.ask(&connector, operation, SET, arguments).await?;
        found = Some(new);
    }
    let _ = answer(operation, lock.close()).await?;
    let _ = answer(operation, session.end()).await?;
    Ok(found)
}

#[async_trait]
impl Profile for ServiceBus {
    async fn capabilities(&self) -> Result<Capabilities> {
        Ok(Capabilities {
            broker: "servicebus".to_owned(),
            durability: Durability::Replicated,
            delay: Delay { native: true, max: MAX_DELAY, lateness: Duration::from_secs(1) },
            hold: Some(LOCK),
            limits: Limits { payload: MAX_PAYLOAD, ..Limits::default() },
            supports: Supports::default(),
        })
    }

    async fn create_topics(&self, topics: &[Topic]) -> Result<()> {
        for topic in topics {
            self.expect_topic(topic, DECLARE).await?;
            self.description(&topic.name, Some(describe_topic(topic)), DECLARE).await?;
        }
        Ok(())
    }

    async fn find_topic(&self, name: &TopicName, operation: &'static str) -> Result<Topic> {
        let Some(text) = self.description(name, None, operation).await? else {
            return Err(no_topic(name, operation));
        };
        parse_topic(name, &text).ok_or_else(|| {
            let message = format!("the session {name} of the queue {TOPICS:?} does not describe a topic: {text:?}");
            Error::new(ErrorKind::Incompatible, operation, message).of(name)
        })
    }

    async fn expect_topic(&self, topic: &Topic, operation: &'static str) -> Result<()> {
        self.expect_node(topic.name.as_str(), &address(&topic.name), operation).await
    }

    async fn expect_subscription(
        &self,
        topic: &Topic,
        subscription: &SubscriptionName,
        _extent: Extent,
        operation: &'static str,
    ) -> Result<()> {
        if subscription.as_str().len() > MAX_SUBSCRIPTION {
            let message = format!("the name has more than the {MAX_SUBSCRIPTION} characters that Service Bus takes");
            return Err(Error::new(ErrorKind::InvalidArgument, operation, message).of(subscription));
        }
        self.expect_node(subscription.as_str(), &reading(&topic.name, subscription), operation).await
    }

    fn route(&self, topic: &TopicName, partition: Partition, not_before: Option<Timestamp>) -> Route {
        let moment = |due| Value::Timestamp(Moment::from_milliseconds(wire::millis(due)));
        let annotation = not_before.map(|due| (ENQUEUE_TIME, moment(due)));
        // A subscription without sessions does not look at the group.
        Route { partition, group: Some(partition.to_string()), annotation, ..Route::by_link(address(topic)) }
    }

    fn queue(&self, topic: &Topic, subscription: &SubscriptionName, partition: Partition) -> Source {
        let name = reading(&topic.name, subscription);
        let is_shared = topic.ordering == Ordering::Shared;
        let session = (!is_shared).then(|| partition.to_string());
        let flush = Flush::Request { node: management(&name), session: session.clone() };
        let node = Node { session, ..Node::of_its_own(name.clone()) };
        Source { marks: is_shared, ..Source::new(name, node, flush) }
    }

    /// A scheduled message joins its session when it is due.
    fn due(&self, _topic: &TopicName) -> Option<Due> {
        None
    }

    async fn listen(&self, topic: &TopicName, _limit: u32) -> Result<Source> {
        let message = "a client of Service Bus cannot make a subscription of its own by AMQP; use a declared one";
        Err(Error::new(ErrorKind::Unsupported, "consume", message).of(topic))
    }

    /// All heartbeats go to one queue, whose messages expire soon. The members look at them, and nobody takes them.
    fn heartbeat(&self, topic: &TopicName, subscription: &SubscriptionName) -> Route {
        let (group, time_to_live) = (Some(members(topic, subscription)), Some(TIME_TO_LIVE));
        Route { group, time_to_live, ..Route::by_link(MEMBERS.to_owned()) }
    }

    async fn hearing(&self, topic: &TopicName, subscription: &SubscriptionName, _limit: u32) -> Result<Hearing> {
        Ok(Hearing::Peek { node: management(MEMBERS), group: members(topic, subscription) })
    }

    fn inbox_address(&self, secret: &str) -> InboxAddress {
        InboxAddress::new(format!("{INBOX}/{secret}"))
    }

    async fn inbox(&self, address: &InboxAddress, _limit: u32) -> Result<Source> {
        let session = secret(address).map(str::to_owned);
        let flush = Flush::Request { node: management(INBOX), session: session.clone() };
        let node = Node { session, ..Node::of_its_own(INBOX.to_owned()) };
        Ok(Source::new(address.as_str().to_owned(), node, flush))
    }

    fn reply(&self, inbox: &InboxAddress) -> Option<Route> {
        let (group, time_to_live) = (Some(secret(inbox)?.to_owned()), Some(TIME_TO_LIVE));
        Some(Route { group, time_to_live, ..Route::by_link(INBOX.to_owned()) })
    }

    /// The broker's clock may be ahead of ours.
    fn is_early(&self) -> bool {
        true
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// The session of an inbox.
fn secret(inbox: &InboxAddress) -> Option<&str> {
    let secret = inbox.as_str().strip_prefix(INBOX)?.strip_prefix('/')?;
    InboxAddress::is_secret(secret).then_some(secret)
}

fn address(topic: &TopicName) -> String {
    format!("partitura/{topic}")
}

/// The group of the heartbeats of a subscription.
fn members(topic: &TopicName, subscription: &SubscriptionName) -> String {
    format!("{topic}/{subscription}")
}

/// The address by which a subscription is read.
fn reading(topic: &TopicName, subscription: &SubscriptionName) -> String {
    format!("partitura/{topic}/Subscriptions/{subscription}")
}

/// The node that answers requests about another.
fn management(node: &str) -> String {
    format!("{node}/$management")
}
