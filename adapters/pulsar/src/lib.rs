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
//! # How each promise is kept
//!
//! * **One owner.** A topic is a partitioned topic, and a partition is consumed by an *Exclusive* subscription: the
//!   broker refuses a second consumer. The members of a subscription share out the partitions among them
//!   ([`Member`](partitura_adapter_kit::Member)).
//! * **Order on take-over.** The broker gives the unsettled messages to the next owner, in order.
//! * **Order on the way in.** The adapter chooses the partition of a key. For each partition there is one producer in
//!   this process, whose entries follow each other on one connection.
//! * **Settlement** is by single messages, also those of a batch. The adapter tells the broker the settled indexes of
//!   an entry, and the broker tells the next owner the unsettled ones.
//! * **Delay.** A message that is not due waits among the timers of its topic, which a *Shared* subscription delays.
//!   One of the processes that consume the topic forwards each timer, at its time, to its partition.
//! * **Shared topics** have one partition with a *Shared* subscription.
//! * **Broadcasts** are consumers that are not durable. **Inboxes** and the members' heartbeats are topics that are not
//!   stored.
//!
//! The page docs/brokers/pulsar.md explains the objects on the broker, the meaning of a receipt, and why the crate
//! `pulsar` is used for its codec and not for its consumers and producers.
//!
//! # The files
//!
//! The files without a mark are those of every adapter. `+` marks files that Pulsar needs. A file imports only files
//! above it.
//!
//! ```text
//! names.rs  options.rs  error.rs  wire.rs    no state: settings, errors, names, messages as entries
//! faults.rs        + known faults of versions of the broker
//! mailbox.rs       + Mailbox: a bounded queue whose oldest messages make room
//! client/            Cluster: connections, one to each broker to publish and one to consume; Admin: the admin API
//! topics.rs          Topics: the declarations, as the properties of topics have them
//! publish_call.rs  + PublishCall, Promise: the callers of publish and their outcomes
//! publisher.rs     + Publisher: a task for each partition, which opens a producer and sends
//! core.rs            Core: the state that all parts share
//! topology.rs        declares topics and subscriptions
//! listener.rs      + Listener: receives a topic that is not stored
//! claim/             PulsarClaim: a partition that a member owns, its settlements and its flow
//! delay/timer.rs     a delayed message as a timer
//! producer.rs        PulsarProducer
//! delay/             Forwarders: forward the timers of the topics that are consumed
//! claims.rs          PulsarClaims: a member of a subscription; `Member` makes a consumer of it
//! inbox.rs           PulsarInbox
//! pulsar.rs          Pulsar: the broker
//! ```

mod claim;
mod claims;
mod client;
mod core;
mod delay;
mod error;
mod faults;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
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
