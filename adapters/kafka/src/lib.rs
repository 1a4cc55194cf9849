//! Partitura on Apache Kafka, 3.7 or later.
//!
//! ```no_run
//! # async fn example() -> partitura_broker::Result<()> {
//! use partitura_kafka::{Kafka, Options};
//!
//! let broker = Kafka::connect("kafka://localhost:9092", Options::default()).await?;
//! # Ok(()) }
//! ```
//!
//! # How the promises are kept
//!
//! * **Order and receipts.** Records are queued in the order of the calls and never given up by the client, so that no
//!   record overtakes another of its partition. A caller that stops waiting gets `OutcomeUnknown`. The first record of
//!   a partition travels alone. Otherwise it could be confirmed without being written: `first_record`.
//! * **Ownership** is the group protocol's. Its callbacks only take notes: librdkafka waits until a partition is
//!   assigned or unassigned, and that wait is the hand-over.
//! * **Settlement** in any order is an offset and a `position` in its metadata.
//! * **A topic that was deleted and created again** is another topic of the same name: `birth`, `watch`.
//! * **Topology.** The label of a topic says its kind and ordering, in a setting that has no other meaning: `route`.
//!
//! # The parts
//!
//! ```text
//! Kafka ── one connection: `core`, `client`, and the known topics: `topics`
//!   ├ producer ── one idempotent librdkafka producer for the connection: `record_producer`
//!   ├ consumer ── ordered: a member of a consumer group, on a thread of its own: `consumer`
//!   │             shared: a member that claims messages in a log of claims: `claims`, `claim`
//!   │             broadcast: a reader without a group: `claims`, `reader`
//!   │             and the forwarders of the delayed messages of its topics: `delay`
//!   └ inbox ── a reader of the topic of replies: `inbox`
//! ```
//!
//! The page docs/brokers/kafka.md tells operators what the adapter keeps on their brokers.

mod birth;
mod callbacks;
mod capabilities;
mod claim;
mod claims;
mod client;
mod consumer;
mod core;
mod delay;
mod error;
mod first_record;
mod forwarding_consumer;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod inbox;
mod kafka;
mod names;
mod new_log;
mod options;
mod position;
mod producer;
mod reader;
mod ready;
mod record;
mod record_producer;
mod route;
mod stop;
mod subscription;
mod topics;
mod topology;
mod watch;
mod wire;

pub use kafka::Kafka;
pub use options::Options;
