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
//! * A topic is a partitioned topic, and the partition of a key is ours. For each partition there is one producer in this
//!   process, whose entries follow each other on one connection, and at most one consumer anywhere, by an *Exclusive*
//!   subscription: the broker refuses a second one, and gives what is unsettled to the next, in order.
//! * Messages are settled one by one, also those of a batch: the broker is told which indexes of an entry are done, and
//!   tells the next owner which are left.
//! * Who should own what, the members of a subscription agree on: [`Member`](partitura_adapter_kit::Member).
//! * A message that is not due waits in the timers of its topic, a *Shared* subscription of which delays. One of the
//!   processes that consume the topic forwards the timers, at their time, to where their order begins.
//!
//! # Who does what
//!
//! ```text
//! producer ─► publisher, a task per partition ─┐                     ┌─► claim, one per partition ─► member
//!               ▲                              ├─► client ◄──► broker
//!           forwarder ◄────────────────────────┘  one connection to each broker to publish, one to consume
//! topics ─► admin API                             topics, properties
//! ```
//!
//! The page docs/brokers/pulsar.md says what exists on the broker, what a receipt means, and why the crate `pulsar` is used
//! for its codec and not for its consumers and producers.

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
