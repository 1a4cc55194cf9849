//! Partitura on RabbitMQ, 3.10 to 4.x.
//!
//! ```no_run
//! # async fn example() -> partitura_broker::Result<()> {
//! use partitura_rabbitmq::{Options, Rabbitmq};
//!
//! let broker = Rabbitmq::connect("amqp://guest:guest@localhost", Options::default()).await?;
//! # Ok(()) }
//! ```
//!
//! # How each promise is kept
//!
//! * **Order, and one owner.** Each partition of a subscription is a quorum queue, bound by its number to the direct
//!   exchange of the topic. Its owner holds a lock: an exclusive queue, which exists once and is deleted with the
//!   connection. A single active consumer keeps the next owner waiting until the broker has put back the messages of
//!   the previous one.
//! * **Nothing comes back out of order.** The adapter sends no negative acknowledgement, and cancels no consumer that
//!   holds messages. It closes the channel, and the broker puts everything back in order.
//! * **Confirms** are matched per message, within a window. A message that the broker returns, because no queue is
//!   bound, fails.
//! * **Delay.** Messages wait in queues of fixed times. The consumers of a topic forward the messages that fall due.
//! * **Membership.** The members send heartbeats through the topic's exchange.
//!   [`Member`](partitura_adapter_kit::Member) decides which member should own which partition.
//!
//! ```text
//! producer ─► publisher (task) ─► exchange of the topic ─┬─► queue per subscription and partition ─► claim ─► member
//!                    ▲        └─► wait queue ─► due queue ┐ └─► queue of a listener
//!                    └──────── forwarder ◄────────────────┘
//! ```
//!
//! # The files
//!
//! The files without a mark are those of every adapter. `+` marks files that RabbitMQ needs. A file imports only files
//! above it.
//!
//! ```text
//! options.rs  error.rs  names.rs  wire.rs    no state: settings, errors, names, messages
//! faults.rs  version.rs  + known faults, and the version of the server
//! hold.rs          + HoldLimit: the time for which the server lets a delivery be held
//! settlement.rs    + Settlement: acknowledgements in few frames
//! client.rs          Client, Connector: connections, each for one purpose
//! queues.rs        + requests about queues
//! topics.rs          Topics: what exchanges say of their topics
//! core.rs            Core: the state that all parts share
//! delay/wait_queues.rs   the queues in which messages wait
//! topology.rs        declares
//! publisher.rs     + Publisher: the task that publishes for one producer, or for a forwarder
//! delay/             forwards the messages that fall due
//! lock.rs          + PartitionLock: the exclusive queue of a partition's owner
//! claim.rs           QueueClaim: a queue that this process consumes
//! claims.rs          RabbitmqClaims; `Member` makes a consumer of it
//! inbox.rs           RabbitmqInbox: replies
//! producer.rs        RabbitmqProducer
//! rabbitmq.rs        Rabbitmq: the broker
//! ```

mod claim;
mod claims;
mod client;
mod consuming;
mod core;
mod delay;
mod error;
mod faults;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hold;
mod inbox;
mod lock;
mod names;
mod options;
mod producer;
mod publisher;
mod queues;
mod rabbitmq;
mod settlement;
mod topics;
mod topology;
mod version;
mod wire;

pub use options::Options;
pub use rabbitmq::Rabbitmq;
