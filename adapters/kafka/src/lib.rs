//! Partitura on Apache Kafka.
//!
//! ```text
//! Kafka ── one connection: `core`
//!   ├ producer ── one idempotent librdkafka producer for everybody: `record_producer`
//!   ├ consumer ── ordered: a member of a consumer group, on a thread of its own: `consumer`
//!   │             shared: a claimant in a log of claims: `shared`
//!   │             broadcast: a reader without a group: `listener`, `reader`
//!   │             and the timers of its topics: `delay`
//!   └ inbox ── a reader of the topic of replies: `inbox`
//! ```
//!
//! * **Order and receipts.** Records are queued in the order of the calls and never given up by the client, so that no
//!   record overtakes another of its partition; a caller that waits no longer gets `OutcomeUnknown`. The first record of a
//!   partition travels alone, lest it be confirmed and not written: `first_record`.
//! * **Ownership** is the group protocol's. Its callbacks only take notes: librdkafka waits until a partition is assigned
//!   or unassigned, and that wait is the hand-over.
//! * **Settlement** in any order is an offset and a `position` in its metadata.
//! * **A topic made anew** under the name of one that was deleted is another: `birth`, `watch`.
//! * **Topology**: a topic's kind and ordering are its label, in a setting that means nothing else: `topology`.
//!
//! `docs/brokers/kafka.md` tells operators what they find on their brokers.

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
mod health;
mod inbox;
mod kafka;
mod names;
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
