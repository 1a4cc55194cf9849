//! Partitura on Apache Pulsar, 3.0 to 4.x.
//!
//! ```no_run
//! # async fn example() -> partitura_broker::Result<()> {
//! use partitura_pulsar::{Options, Pulsar};
//!
//! let broker = Pulsar::connect("pulsar://localhost:6650", Options::default()).await?;
//! # Ok(()) }
//! ```
//!
//! # How the promises are kept
//!
//! * A topic is a partitioned topic, and the adapter chooses the partition of a key. For each partition there is one
//!   producer in this process, whose entries follow each other on one connection. There is at most one consumer of it
//!   anywhere, by an *Exclusive* subscription: the broker refuses a second one, and gives unsettled messages to the
//!   next, in order.
//! * Messages are settled one by one, also those of a batch. The adapter tells the broker the settled indexes of an
//!   entry, and the broker tells the next owner the unsettled ones.
//! * The members of a subscription share out the partitions: [`Member`](partitura_adapter_kit::Member).
//! * A message that is not due waits among the timers of its topic, which a *Shared* subscription delays. One of the
//!   processes that consume the topic forwards each timer, at its time, to its partition.
//!
//! # The parts
//!
//! ```text
//! producer ─► publisher, a task per partition ─┐                     ┌─► claim, one per partition ─► member
//!               ▲                              ├─► client ◄──► broker
//!           forwarder ◄────────────────────────┘  one connection to each broker to publish, one to consume
//! topics ─► admin API                             topics, properties
//! ```
//!
//! The page docs/brokers/pulsar.md explains the objects on the broker, the meaning of a receipt, and why the crate
//! `pulsar` is used for its codec and not for its consumers and producers.

mod claim;
mod claims;
mod client;
mod core;
mod delay;
mod error;
mod faults;
mod inbox;
mod listener;
mod mailbox;
mod names;
mod options;
mod producer;
mod publish_call;
mod publisher;
mod pulsar;
mod topics;
mod topology;
mod wire;

pub use self::options::{Batching, Credentials, OAuth2, Options};
pub use self::pulsar::Pulsar;
