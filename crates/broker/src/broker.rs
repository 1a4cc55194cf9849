use std::fmt::Debug;

use async_trait::async_trait;

use crate::{
    AckToken, Capabilities, ConsumerOptions, CorrectedClock, Delayed, Error, ErrorKind, Event, InboxAddress, Message,
    Partition, ProducerOptions, Receipt, Result, TopicName, Topology, Transactions,
};

/// A connection to a message broker: the one trait that every adapter implements.
///
/// A `Broker` is shared (`Arc<dyn Broker>`), cheap to use from many tasks, and owns its connections: it reconnects by
/// itself, and tells consumers with [`Event::Lost`] which partitions a lost connection took from them.
///
/// Adapters never retry a request, never read payloads, never use the broker's own negative acknowledgement on an
/// ordered path, and never block the async runtime, dropping included. They answer wrong credentials with
/// [`Unauthorized`](crate::ErrorKind::Unauthorized) when connecting or at first use, and so a request for which the
/// user lacks the right. They refuse certificates of another authority, and show secrets nowhere.
///
/// Conformance: `reconnect.cut`, `reconnect.half_open`, `reconnect.frozen`, `auth.refused`, `auth.rights`,
/// `tls.required`.
#[async_trait]
pub trait Broker: Debug + Send + Sync {
    /// How this broker keeps the promises, and within which limits. Constant for the life of the connection.
    ///
    /// Conformance: `cap.honest`.
    fn capabilities(&self) -> &Capabilities;

    /// Creates, or verifies, topics and their durable subscriptions.
    ///
    /// **Contract.** Idempotent, also when two processes declare at once. Topics that exist already are compared with
    /// the request. With [`DeclareMode::Verify`](crate::DeclareMode::Verify) nothing is created. Every message
    /// published to a topic after `declare` returned is promised to each durable subscription declared with it; nothing
    /// is promised of earlier ones. This holds for a topic that an operator has deleted, and that is declared again, as
    /// well: also while consumers of it run. These may end with [`NotFound`](crate::ErrorKind::NotFound) meanwhile.
    ///
    /// # Errors
    /// [`Incompatible`](crate::ErrorKind::Incompatible) when something exists and differs (the message says what, what
    /// was expected and what was found), [`NotFound`](crate::ErrorKind::NotFound) when it is missing and may not be
    /// created, [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a topology that contradicts itself. All
    /// final. Connection trouble is retryable, and declaring again is harmless.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a part of the topology declared. Declaring again completes it.
    ///
    /// Conformance: `admin.idempotent`, `admin.verify_only`, `order.repartition`, `scale.topics`,
    /// `operator.topic_deleted`, `operator.partitions_added`.
    async fn declare(&self, topology: &Topology) -> Result<()>;

    /// Opens a producer. It serves any number of topics.
    ///
    /// # Errors
    /// Those of connecting; retryable unless [`Unauthorized`](crate::ErrorKind::Unauthorized) or
    /// [`Closed`](crate::ErrorKind::Closed).
    ///
    /// # Cancel safety
    /// Safe.
    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>>;

    /// Joins a subscription as one more consumer.
    ///
    /// **Contract.** Of an ordered subscription the consumer receives whole partitions, balanced over the consumers;
    /// of a shared one, single messages in competition; of a [broadcast](ConsumerOptions::broadcast) of a stream,
    /// everything published from now on, without durability. A broadcast is of exactly one topic.
    ///
    /// # Errors
    /// Those of [`ConsumerOptions::validate`]; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a broadcast
    /// of a queue; [`NotFound`](crate::ErrorKind::NotFound) when the topic or the subscription was not declared.
    ///
    /// # Cancel safety
    /// Safe: a consumer that was not returned holds nothing.
    ///
    /// Conformance: `order.rebalance`, `order.rebalance_killed`, `shared.competing`, `group.broadcast`,
    /// `group.one_topic`, `group.balanced`, `group.clocks_differ`, `group.several_topics`, `group.slowest`,
    /// `operator.settled_freed`, `order.owner_frozen`, `scale.churn`, `scale.joins`.
    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>>;

    /// Opens a private, short-lived address for replies to this process.
    ///
    /// **Contract.** At most once, in memory, gone when dropped. Nothing durable may depend on it: a client that
    /// misses a reply asks again. Its address has a part that [cannot be guessed](InboxAddress::secret).
    ///
    /// # Errors
    /// Those of connecting.
    ///
    /// # Cancel safety
    /// Safe.
    ///
    /// Conformance: `inbox.reply`, `inbox.secret`, `inbox.processes`, `inbox.many`.
    async fn inbox(&self) -> Result<Box<dyn Inbox>>;

    /// Whether a message that is published to the stream `topic` now has a receiver, durable subscription or
    /// broadcast. Cheap: asked before a message is built.
    ///
    /// `false` only where the broker knows that the message would be dropped; one that keeps streams for their
    /// retention, or cannot tell, answers `true`.
    ///
    /// Conformance: `publish.subscribers`.
    fn has_subscribers(&self, topic: &TopicName) -> bool;

    /// The clock by which this connection judges whether a message is due, and for how long it has to wait.
    ///
    /// **Contract.** Every call gives a handle to the same clock. The layer above corrects it when it knows how far it
    /// is off, and takes its own moments from it, so that the two never disagree. An adapter that leaves every such
    /// judgment to the server may keep the default: a clock of which it knows nothing.
    fn clock(&self) -> CorrectedClock {
        CorrectedClock::default()
    }

    /// One commit for settling, publishing and writing state, where the broker can.
    ///
    /// `None` is a declared answer, not a failure: the layer above then does the same in two steps, with a store and an
    /// outbox.
    ///
    /// Conformance: `transaction.atomic`, `transaction.fence`.
    fn transactions(&self) -> Option<&dyn Transactions> {
        None
    }

    /// Closes every producer, consumer and connection of this broker, after accepted messages and settlements are
    /// written.
    ///
    /// Afterwards every call answers [`Closed`](crate::ErrorKind::Closed). Closing twice is harmless.
    ///
    /// # Errors
    /// The error that kept accepted work from being written.
    ///
    /// # Cancel safety
    /// Safe to call again.
    ///
    /// Conformance: `close.closed`.
    async fn close(&self) -> Result<()>;
}

/// Publishes messages to any topic.
#[async_trait]
pub trait Producer: Debug + Send + Sync {
    /// Publishes a batch and answers when each message is confirmed or has failed, one result per message, in the
    /// order given.
    ///
    /// **Ordering.** Per topic and key, messages are stored in the order in which their `publish` futures were first
    /// polled, and inside a batch in its order. After a retryable failure on a key, the later messages of that key in
    /// the batch fail too, so that nothing overtakes it; a message that is refused for good leaves the others alone.
    ///
    /// **Durability.** A [`Receipt`] means what [`Capabilities::durability`] says.
    ///
    /// **Back-pressure.** The future waits while [`ProducerOptions::window`] messages are unconfirmed.
    ///
    /// # Errors
    /// Per message. [`PayloadTooLarge`](crate::ErrorKind::PayloadTooLarge),
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) (delay beyond the maximum, too many headers) and
    /// [`NotFound`](crate::ErrorKind::NotFound) are final and leave the others alone.
    /// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown): it may or may not have been stored; publish it again with
    /// the same [id](Message::id).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome of the batch unknown. It never reorders a key.
    ///
    /// Conformance: `publish.confirmed_is_delivered`, `publish.batch_results`, `publish.concurrent`,
    /// `publish.many_topics`, `publish.partition`, `order.key_basic`, `order.slow_network`, `flow.window`,
    /// `flow.blocked_broker`, `confirm.durable`, `confirm.lost_then_retried`, `confirm.swallowed`, `confirm.copies`,
    /// `reconnect.broker_restart`, `delay.over_max`, `delay.process_killed`, `delay.process_frozen`, `cancel.safe`,
    /// `scale.keys`.
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>>;

    /// Cancels delayed messages that still wait, and answers for each, in the order given.
    ///
    /// **Contract.** `true`: it was waiting, and no subscription will ever get it; that survives the same failures as a
    /// [`Receipt`]. `false`: there was nothing to cancel, and nothing has changed: it was delivered or is about to be,
    /// it was cancelled before, or it was never there. Copies that were published under the same id and moment are
    /// cancelled together. A message that is published afterwards is a new one, the same id or not. While a message is
    /// not confirmed, either may come first.
    ///
    /// # Errors
    /// Per message. [`Unsupported`](ErrorKind::Unsupported) where
    /// [`Supports::cancellation`](crate::Supports::cancellation) is not declared, and [`NotFound`](ErrorKind::NotFound)
    /// are final. The others are retryable: it may or may not have been cancelled, and cancelling again is harmless.
    ///
    /// # Cancel safety
    /// Dropping the future leaves open which were cancelled.
    ///
    /// Conformance: `delay.cancel`, `delay.cancel_race`, `delay.cancel_survives_restart`.
    async fn cancel(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        let message = "this broker cannot take back what is delayed: let it come, and ignore it";
        let refused = |delayed: Delayed| Err(Error::new(ErrorKind::Unsupported, "cancel", message).of(delayed.topic));
        delayed.into_iter().map(refused).collect()
    }

    /// Sends replies to inboxes, at most once and without confirmation. The topic of each message is ignored.
    ///
    /// **Contract.** An address is copied from a request, and may be any text. A reply goes to an inbox of this broker
    /// or nowhere: no address leads to a topic, nor to anything else that the broker knows. An address that is no
    /// inbox, or of one that is gone, is not an error.
    ///
    /// # Errors
    /// Those of the connection.
    ///
    /// # Cancel safety
    /// Some of the replies may have been sent.
    ///
    /// Conformance: `inbox.reply`, `inbox.forged`.
    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()>;
}

/// One member of a subscription.
///
/// ```text
/// loop { match consumer.next().await? {
///     Assigned(..)   => begin with these partitions, nothing of them is in flight
///     Deliveries(..) => handle; settle each when it is done, in any order
///     Revoking{..}   => take up nothing new of them, finish what runs, settle, release
///     Lost(..)       => too late: stop, settle nothing of them
/// }}
/// ```
///
/// Dropping a consumer is a crash as far as the broker can tell: its unsettled messages are delivered to another.
#[async_trait]
pub trait Consumer: Debug + Send {
    /// Waits for the next event.
    ///
    /// **Contract.** The deliveries of a partition come between its [`Event::Assigned`] and its
    /// [`release`](Self::release) or [`Event::Lost`]. Of each topic, no more than the
    /// [credit](ConsumerOptions::credit) is outstanding; one message larger than the whole credit still comes, alone of
    /// its topic. Outstanding messages of one topic never keep back another: parked messages come although the
    /// main topic has used up its credit.
    ///
    /// # Errors
    /// Retryable ones after the adapter has begun to reconnect: call again. [`Closed`](crate::ErrorKind::Closed) and
    /// [`Unauthorized`](crate::ErrorKind::Unauthorized) end the consumer.
    ///
    /// # Cancel safety
    /// Safe: dropping the future loses no event.
    ///
    /// Conformance: `order.key_basic`, `order.takeover_with_new`, `flow.credit_bound`, `flow.credit_bytes`,
    /// `flow.memory`, `flow.fair_topics`, `delay.never_early`, `cancel.safe`.
    async fn next(&mut self) -> Result<Event>;

    /// Settles deliveries: they will not come again. In any order; coalesced and sent in the background.
    ///
    /// A token of an epoch that has ended, of a slot that is settled already, or of another consumer is a counted
    /// no-op. Does not allocate in proportion to anything but `tokens`, and cannot be half done.
    ///
    /// Conformance: `ack.out_of_order`, `ack.one_of_batch`, `ack.stale_epoch`, `ack.double`.
    fn settle(&mut self, tokens: &[AckToken]);

    /// Waits until the broker has taken every settlement so far, as durably as it keeps settlements.
    ///
    /// # Errors
    /// Retryable ones of the connection; the deliveries concerned may come again.
    ///
    /// # Cancel safety
    /// Safe to call again.
    ///
    /// Conformance: `ack.crash_redelivers`.
    async fn flush(&mut self) -> Result<()>;

    /// Ends the hand-over that [`Event::Revoking`] began: settlements are flushed, then the successor may start.
    ///
    /// Unsettled messages are then delivered to the successor. Naming a partition that is not being revoked is a no-op.
    ///
    /// # Errors
    /// Retryable ones of the connection; the partitions are given up in any case.
    ///
    /// # Cancel safety
    /// The partitions are given up at the deadline at the latest.
    ///
    /// Conformance: `order.graceful_handover`, `order.revoke_deadline`, `shutdown.handoff_time`.
    async fn release(&mut self, partitions: &[Partition]) -> Result<()>;

    /// Leaves the subscription: flushes settlements, and hands everything over at once.
    ///
    /// # Errors
    /// Those of the flush; the consumer is gone in any case.
    ///
    /// # Cancel safety
    /// As dropping the consumer.
    ///
    /// Conformance: `shutdown.handoff_time`.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// A private address, and the replies that arrive at it.
#[async_trait]
pub trait Inbox: Debug + Send {
    /// The address to put into requests. It is meaningful in every process that reaches the same broker.
    fn address(&self) -> &InboxAddress;

    /// Waits for the next reply. Bounded: where replies are not read, the oldest are dropped.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed), or retryable ones of the connection.
    ///
    /// # Cancel safety
    /// Safe.
    async fn next(&mut self) -> Result<Message>;
}
