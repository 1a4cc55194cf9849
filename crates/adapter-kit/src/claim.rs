use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use partitura_broker::{CorrectedClock, Message, Partition, Result, Timestamp, TopicName};
use tokio::time::Instant;

/// A broker whose partitions are claimed one by one, as one member of one subscription sees it. An adapter implements
/// it, and [`Member`](crate::Member) makes a [`Consumer`](partitura_broker::Consumer) of it.
///
/// The broker (or the adapter) keeps two members from holding one partition; `Member` decides which member should hold
/// which, by the heartbeats that the members send each other through [`send_heartbeat`](Self::send_heartbeat) and
/// [`next_heartbeat`](Self::next_heartbeat).
#[async_trait]
pub trait Claims: Debug + Send + Sync + 'static {
    /// A partition of a topic that this member has claimed.
    type Claim: Claim;

    /// Claims a partition of one of the subscription's topics. `ahead` is the number of unsettled messages that the
    /// claim may hold, including those that it has fetched and not yet given out.
    ///
    /// A shared subscription and a broadcast have one claim per topic, of partition 0, which does not exclude other
    /// members.
    ///
    /// # Errors
    /// [`Busy`](partitura_broker::ErrorKind::Busy) while another holds it: the claim is tried again soon. Retryable
    /// errors are tried again with a backoff. [`Closed`](partitura_broker::ErrorKind::Closed),
    /// [`Unauthorized`](partitura_broker::ErrorKind::Unauthorized) and
    /// [`NotFound`](partitura_broker::ErrorKind::NotFound) end the consumer.
    ///
    /// # Cancel safety
    /// A claim that was not returned is not held.
    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<Self::Claim>;

    /// Sends a heartbeat to every member of the subscription, this one included or not: at most once, up to 64 bytes.
    /// Never called for a shared subscription or a broadcast.
    ///
    /// # Errors
    /// Those of the connection. The next heartbeat makes up for it.
    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()>;

    /// Waits for a heartbeat of a member. Heartbeats from before this member joined may be missed.
    ///
    /// # Errors
    /// Those of the connection, after which it is called again with a backoff.
    ///
    /// # Cancel safety
    /// Safe.
    async fn next_heartbeat(&self) -> Result<Bytes>;

    /// Waits until the topics have more partitions than `known`, all of them, and returns how many. Never, where nobody
    /// can give a topic more partitions.
    ///
    /// # Cancel safety
    /// Safe.
    async fn grown(&self, _known: u32) -> u32 {
        std::future::pending().await
    }

    /// The clock by which the consumer holds back messages that come before they are due, and gives them out in the
    /// order in which they fall due. For a broker that passes delayed messages on a little early, or in an order of its
    /// own.
    ///
    /// `None`: the claims give out no message too early, and all in order.
    fn clock(&self) -> Option<CorrectedClock> {
        None
    }
}

/// A partition of one topic that one member owns. For the broker, dropping it is a crash: all unsettled messages go to
/// the next owner, in order, at once.
#[async_trait]
pub trait Claim: Debug + Send + 'static {
    /// The value by which the broker settles a message: a delivery tag, a sequence.
    type Handle: Send + 'static;

    /// Waits for messages: those that are there, at least one, in order.
    ///
    /// # Errors
    /// Any error means that the claim is gone: its deliveries are void and come again.
    ///
    /// # Cancel safety
    /// Dropping the future loses no message.
    async fn next(&mut self) -> Result<Vec<Claimed<Self::Handle>>>;

    /// The moment at which the claim is given up although no other member asks for it: the broker would soon take it
    /// away, because an unsettled message is held for too long. `None`: never. Read again whenever a message was given
    /// out or settled.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The moment at which the broker stored a message, if it is known. It decides the place of a message without delay
    /// among those that were delayed.
    fn stored(&self, _handle: &Self::Handle) -> Option<Timestamp> {
        None
    }

    /// Asks the broker when it stored the first message that [`next`](Self::next) has not returned yet. `None`: there
    /// is none, or the broker cannot send it because all the room of this claim is taken by messages that are not with
    /// the consumer. Of the unsettled messages that the claim has given out, these are `held_back`, since they were not
    /// due.
    ///
    /// Asked only if the claims have a [clock](Claims::clock), when a message that was held back has fallen due: those
    /// that were stored before that moment come first. The answer is about what had come when this was called, so the
    /// future borrows nothing, and `next` goes on meanwhile.
    ///
    /// # Errors
    /// Retryable errors mean that the broker is asked again; others, that the claim is gone.
    fn first_missing(&self, _held_back: usize) -> BoxFuture<'static, Result<Option<Timestamp>>> {
        ready(Ok(None)).boxed()
    }

    /// Settles messages of this claim, in any order. Does not wait: an error of sending comes from the
    /// next [`flush`](Self::flush) or [`next`](Self::next).
    fn settle(&mut self, handles: Vec<Self::Handle>);

    /// Waits until the broker has taken every settlement so far.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// Safe to call again.
    async fn flush(&mut self) -> Result<()>;

    /// Gives the partition up, settlements first. When this returns, another member may claim it, and gets the
    /// unsettled messages.
    ///
    /// # Errors
    /// The reason why settlements were not taken; the partition is given up in any case.
    async fn release(self) -> Result<()>;
}

/// A message of a [`Claim`].
#[derive(Debug)]
pub struct Claimed<H> {
    /// Its partition; 0 on a shared topic. It is that of the claim, except in a broadcast.
    pub partition: Partition,
    /// The published message.
    pub message: Message,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// The handle for settling it.
    pub handle: H,
}
