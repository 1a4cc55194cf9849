use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{Message, Partition, Result, TopicName};

/// A broker whose partitions are claimed one by one, as one member of one subscription sees it: what an adapter writes
/// so that [`Member`](crate::Member) makes a [`Consumer`](partitura_broker::Consumer) of it.
///
/// The broker (or the adapter) keeps two members from holding one partition; `Member` decides who should hold which, by
/// what the members tell each other through [`say`](Self::say) and [`hear`](Self::hear).
#[async_trait]
pub trait Claims: Debug + Send + Sync + 'static {
    /// A partition of a topic in the hands of this member.
    type Claim: Claim;

    /// Claims a partition of one of the subscription's topics. `ahead` is how many unsettled messages the claim may
    /// hold, those included that it has fetched and not yet given out.
    ///
    /// A shared subscription and a broadcast have one claim per topic, of partition 0, which excludes nobody.
    ///
    /// # Errors
    /// [`Busy`](partitura_broker::ErrorKind::Busy) while another holds it: it is tried again soon. Retryable ones are
    /// tried again with a backoff. [`Closed`](partitura_broker::ErrorKind::Closed),
    /// [`Unauthorized`](partitura_broker::ErrorKind::Unauthorized) and
    /// [`NotFound`](partitura_broker::ErrorKind::NotFound) end the consumer.
    ///
    /// # Cancel safety
    /// A claim that was not returned is not held.
    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<Self::Claim>;

    /// Tells every member of the subscription, this one included or not. At most once, and short: up to 64 bytes.
    /// Never called for a shared subscription or a broadcast.
    ///
    /// # Errors
    /// Those of the connection; it is said again at the next beat.
    async fn say(&self, beat: Bytes) -> Result<()>;

    /// Waits for what a member says. What was said before this member joined need not be heard.
    ///
    /// # Errors
    /// Those of the connection, after which it is called again with a backoff.
    ///
    /// # Cancel safety
    /// Safe.
    async fn hear(&self) -> Result<Bytes>;
}

/// A partition of one topic in the hands of one member. Dropping it is a crash as far as the broker can tell: it gives
/// everything unsettled to the next owner, in order, at once.
#[async_trait]
pub trait Claim: Debug + Send + 'static {
    /// What the broker has to be told to settle a message: a delivery tag, a sequence.
    type Handle: Send + 'static;

    /// Waits for messages: those that are there, at least one, in order.
    ///
    /// # Errors
    /// Any error says that the claim is gone: what it gave out is void and comes again.
    ///
    /// # Cancel safety
    /// Dropping the future loses no message.
    async fn next(&mut self) -> Result<Vec<Claimed<Self::Handle>>>;

    /// Settles messages of this claim, in any order. Does not wait; what cannot be sent shows in the next
    /// [`flush`](Self::flush) or [`next`](Self::next).
    fn settle(&mut self, handles: Vec<Self::Handle>);

    /// Waits until the broker has taken every settlement so far.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// Safe to call again.
    async fn flush(&mut self) -> Result<()>;

    /// Gives the partition up, settlements first. When this returns, another may claim it; what is unsettled goes there.
    ///
    /// # Errors
    /// What kept settlements from being taken; the partition is given up in any case.
    async fn release(self) -> Result<()>;
}

/// A message of a [`Claim`].
#[derive(Debug)]
pub struct Claimed<H> {
    /// Where it came from; 0 on a shared topic. That of the claim, save in a broadcast.
    pub partition: Partition,
    /// What was published.
    pub message: Message,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// What to settle it with.
    pub handle: H,
}
