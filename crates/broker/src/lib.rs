//! The contract between Partitura and a message broker.
//!
//! Everything above this crate (lanes, engine, facade) is written against these traits alone, and every adapter
//! implements them in full. The crate contains no runtime, no I/O and no vendor.
//!
//! # The model
//!
//! No broker keeps the order of a key through its own negative acknowledgement, and each has another idea of delay,
//! dead letters and redelivery. All of them can keep order inside a partition with one active owner, and replay
//! unsettled messages, in order, when the owner dies. The contract asks for this, and for no more:
//!
//! ```text
//! topic ── P partitions ── one owner each, with an epoch ── settlement by token
//! ```
//!
//! * **Topics** are [queues or streams](TopicKind), [ordered by key or shared](Ordering). They and their durable
//!   [subscriptions](Subscription) are [declared](Broker::declare) together: each message that is published after that
//!   is promised to each of the subscriptions.
//! * **Partitions** are ours: [`partition_of`]`(key, P)`, the same on every broker. A message without a key may go to
//!   any partition.
//! * **Ownership.** At most one live consumer of an ordered subscription owns a partition. Each change of the owner
//!   starts a new [epoch](Assignment::epoch), and a settlement from an older epoch is a counted no-op.
//! * **Settlement.** A delivery is settled by its [`AckToken`], in any order, once its message is handled. There is no
//!   negative acknowledgement: a consumer that wants to try again keeps the delivery and tries again. Messages that
//!   were unsettled when their owner went away are delivered again, in order, flagged
//!   [`redelivered`](Delivery::redelivered).
//! * **Delay** is a property of a message, [`not_before`](Message::not_before), on any topic. It joins the order of
//!   its key when it falls due, and can be [cancelled](Producer::cancel) until then, where the broker can.
//! * **Retry, dead letters, parking** are written once above this contract, in `partitura-lanes`.
//!
//! # Delivery guarantees
//!
//! A message whose [receipt](Receipt) was given is delivered at least once to every durable subscription of its topic;
//! how much a receipt survives is stated in [`Capabilities::durability`]. Per key, *first* deliveries come in the order
//! of the receipts; a redelivery is a replay of an unsettled suffix.
//!
//! # Errors
//!
//! Every failure is an [`Error`] with a [kind](ErrorKind) that says whether to try again. Adapters classify and never
//! retry a request on their own; the layer above does.
//!
//! # Conformance
//!
//! Each method names the cases of the conformance suite that check it, as in `order.key_basic`. An adapter is right
//! when the suite says so, and not before.

mod broker;
mod capabilities;
mod clock;
mod delivery;
mod error;
mod joined;
mod message;
mod name;
mod options;
mod partition;
pub mod telemetry;
mod topology;
mod transactions;

pub use broker::{Broker, Consumer, Inbox, Producer};
pub use capabilities::{Capabilities, Delay, Durability, Limits, Supports};
pub use clock::{Clock, CorrectedClock, SystemClock, Timestamp};
pub use delivery::{AckToken, Assignment, Delivery, Event};
pub use error::{Error, ErrorKind, Result};
pub use joined::joined;
pub use message::{Delayed, Headers, InboxAddress, Message, MessageId, Receipt};
pub use name::{InvalidName, MAX_NAME, SubscriptionName, TopicName};
pub use options::{ConsumerOptions, Credit, ProducerOptions};
pub use partition::{Partition, partition_of};
pub use topology::{DeclareMode, Ordering, Subscription, Topic, TopicKind, Topology};
pub use transactions::{Entry, Expect, Put, ScanRange, Space, Transactions, Unit, Version};
