//! The duties of a profile, and what it says about the places to read from.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{
    Capabilities, Error, ErrorKind, InboxAddress, Partition, Result, SubscriptionName, Timestamp, Topic, TopicName,
};

use crate::client::Node;
use crate::wire::Route;

/// The operation of those who make topics and subscriptions.
pub(crate) const DECLARE: &str = "declare";

/// The ways of one kind of broker.
#[async_trait]
pub(crate) trait Profile: Debug + Send + Sync + 'static {
    /// Asks the broker who it is, and says how it keeps the contract.
    ///
    /// # Errors
    /// [`Incompatible`](partitura_broker::ErrorKind::Incompatible): it is of another kind.
    async fn capabilities(&self) -> Result<Capabilities>;

    /// Makes topics, or notes them where an operator makes them. Existing ones are left as they are.
    async fn create_topics(&self, topics: &[Topic]) -> Result<()>;

    /// Makes subscriptions to topics, or verifies them where an operator makes them, as is assumed here.
    async fn create_subscriptions(&self, subscriptions: &[(Topic, SubscriptionName)]) -> Result<()> {
        for (topic, subscription) in subscriptions {
            self.expect_subscription(topic, subscription, Extent::All, DECLARE).await?;
        }
        Ok(())
    }

    /// Looks a topic up at the broker.
    ///
    /// # Errors
    /// [`NotFound`](partitura_broker::ErrorKind::NotFound), about the topic.
    async fn find_topic(&self, name: &TopicName, operation: &'static str) -> Result<Topic>;

    /// Checks that a topic has everything beside its description.
    ///
    /// # Errors
    /// [`NotFound`](partitura_broker::ErrorKind::NotFound), about the topic.
    async fn expect_topic(&self, topic: &Topic, operation: &'static str) -> Result<()>;

    /// Checks that a topic has a subscription: all of it, or that it can be read at all.
    ///
    /// # Errors
    /// [`NotFound`](partitura_broker::ErrorKind::NotFound), about the subscription.
    async fn expect_subscription(
        &self,
        topic: &Topic,
        subscription: &SubscriptionName,
        extent: Extent,
        operation: &'static str,
    ) -> Result<()>;

    /// The way of a message to a topic.
    fn route(&self, topic: &TopicName, partition: Partition, not_before: Option<Timestamp>) -> Route;

    /// The queue of a subscription for one partition of a topic. A shared topic has partition 0.
    fn queue(&self, topic: &Topic, subscription: &SubscriptionName, partition: Partition) -> Source;

    /// The number of messages in a queue that an earlier reader may have had, if the broker does not say it of each
    /// message. Asked by the only reader of the queue.
    async fn doubted(&self, _queue: &Source) -> Result<usize> {
        Ok(0)
    }

    /// The delayed messages of a topic, for a forwarder. `None`: the broker needs none.
    fn due(&self, topic: &TopicName) -> Option<Due>;

    /// A place for everything that is published to a topic from now on, for this process alone. Beyond `limit` messages
    /// the oldest are dropped, if the broker can do that.
    async fn listen(&self, topic: &TopicName, limit: u32) -> Result<Source>;

    /// The way of heartbeats to the members of a subscription.
    fn heartbeat(&self, topic: &TopicName, subscription: &SubscriptionName) -> Route;

    /// The way by which the heartbeats of the members come from now on.
    async fn hearing(&self, topic: &TopicName, subscription: &SubscriptionName, limit: u32) -> Result<Hearing>;

    /// The address of a new inbox.
    fn inbox_address(&self, secret: &str) -> InboxAddress;

    /// A place for the replies to an inbox. It may exist.
    async fn inbox(&self, address: &InboxAddress, limit: u32) -> Result<Source>;

    /// The way of a reply. `None`: this is the address of no inbox. An address comes from a request, and could be that
    /// of anything.
    fn reply(&self, inbox: &InboxAddress) -> Option<Route>;

    /// Whether messages may come a little before they are due.
    fn is_early(&self) -> bool {
        false
    }
}

/// How much of a subscription has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Enough to know that it was declared.
    Some,
    /// Everything.
    All,
}

/// A place to read from, and what is particular about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The name for errors.
    pub(crate) name: String,
    pub(crate) node: Node,
    /// Whether messages that are given back are marked as delivered. This gives them back one by one, which takes them
    /// out of their order.
    pub(crate) marks: bool,
    pub(crate) flush: Flush,
}

impl Source {
    pub(super) fn new(name: String, node: Node, flush: Flush) -> Self {
        Self { name, node, marks: false, flush }
    }
}

/// How to learn that the broker has taken all settlements of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flush {
    /// By a message behind them, to an address that nobody reads.
    Message(Route),
    /// By a request behind them to this node. If there is a session, the request renews its lock, and has to be made
    /// before the lock ends.
    Request { node: String, session: Option<String> },
}

/// How heartbeats come to a member.
#[derive(Debug)]
pub(crate) enum Hearing {
    /// To a place of its own.
    Source(Box<Source>),
    /// To a queue of all members, as messages of this group. This node shows them.
    Peek { node: String, group: String },
}

/// The delayed messages of a topic.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) source: Source,
    /// Whether the broker keeps a message back until it is due.
    pub(crate) keeps_back: bool,
}

/// The largest delay: ten years.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// How late the 99th percentile of delayed messages is with little load.
pub(crate) const LATENESS: Duration = Duration::from_millis(100);

/// The interval in which the lock of a session is renewed.
pub(crate) const RENEWAL: Duration = Duration::from_secs(10);

/// The error about a topic that does not exist.
pub(super) fn no_topic(name: &TopicName, operation: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, operation, "there is no such topic: declare it").of(name)
}
