//! Partitura on brokers that speak AMQP 1.0: Apache Artemis, Solace, Azure Service Bus. The latter two are built from
//! their documentation, and were not run yet.
//!
//! ```no_run
//! # async fn example() -> partitura_broker::Result<()> {
//! use partitura_amqp::{Amqp, Options};
//!
//! let broker = Amqp::connect("amqp10://localhost:5672?profile=artemis", Options::default()).await?;
//! # Ok(()) }
//! ```
//!
//! # How each promise is kept
//!
//! On Artemis; docs/brokers/amqp.md has the others.
//!
//! * **Order, and one owner.** Each partition of a subscription is a queue at the topic's address, with a filter for
//!   its number, and takes one reader (`max-consumers`). The reader that attaches to it is the owner; others are
//!   refused.
//! * **Nothing comes back out of order.** The adapter releases and rejects nothing. It ends the link, and the broker
//!   puts everything back in order.
//! * **Confirms** are the outcomes of single messages, within a window. The broker accepts a durable message after it
//!   has synced it.
//! * **Settlements** are flushed by a message behind them, to an address without a queue: its outcome comes after them.
//! * **Delay.** Messages wait at the broker, in a queue of the topic. The consumers of the topic forward them.
//! * **Membership.** The members send heartbeats through an address of the subscription.
//!   [`Member`](partitura_adapter_kit::Member) decides which member should own which partition.
//!
//! ```text
//! producer ─► publisher (task) ─┬─► address of the topic ─┬─► queue per subscription and partition ─► reader ─► member
//!                 ▲             └─► queue `due` ┐         └─► queue of a listener
//!                 └──────── forwarder ◄─────────┘
//! ```
//!
//! # The files
//!
//! The files without a mark are those of every adapter. A file imports only files above it.
//!
//! ```text
//! options.rs  error.rs  names.rs  wire.rs    no state: settings, errors, names, messages
//! client/            Client, Connector: connections, each for one purpose; links
//! management.rs    + requests about addresses and queues of Artemis
//! profile/         + Profile: what each kind of broker does in its own way
//! topics.rs          Topics: what is known of topics
//! core.rs            Core: the state that all parts share
//! topology.rs        declares
//! reader.rs        + Reader: the task that reads a queue
//! post.rs          + Post: sends replies and heartbeats
//! publisher.rs     + Publisher: the task that publishes for one producer, or for a forwarder
//! delay.rs           forwards the messages that fall due
//! heartbeats.rs    + Heartbeats: those of the members of a subscription, as they come
//! claim.rs           QueueClaim: a queue that this process reads
//! claims.rs          AmqpClaims; `Member` makes a consumer of it
//! inbox.rs           AmqpInbox: replies
//! producer.rs        AmqpProducer
//! amqp.rs            Amqp: the broker
//! ```

mod amqp;
mod claim;
mod claims;
mod client;
mod core;
mod delay;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod heartbeats;
mod inbox;
mod management;
mod names;
mod options;
mod post;
mod producer;
mod profile;
mod publisher;
mod reader;
mod topics;
mod topology;
mod wire;

pub use amqp::Amqp;
pub use options::{Options, Profile};

/// Returns a shell script by which an operator of Solace makes the queues of a topology: AMQP clients cannot make them.
/// It calls SEMP v2 with `curl`, and reads the address, the credentials and the message VPN from its environment.
/// Queues that exist already are left as they are.
pub fn solace_commands(topology: &partitura_broker::Topology) -> String {
    profile::solace_commands(topology)
}
