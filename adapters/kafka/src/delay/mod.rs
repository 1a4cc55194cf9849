//! Delayed messages.
//!
//! Kafka has no delay. So a delayed message waits in a compacted topic with as many partitions as its own. Each of
//! these has one owner among the processes that consume the topic. The owner reads it into an index. When a message is
//! due, it publishes the message to its topic, waits for the confirm, and only then writes a tombstone. After a crash
//! in between, the message is published once more under the same id.
//!
//! * **The owner** of a partition of a queue that is ordered by key is the process that owns this partition in the
//!   queue's subscription: `leases`, `owned`. Streams have several subscriptions or none, and members of a shared
//!   subscription own no partition. So a consumer group of its own, `partitura-timers.TOPIC`, gives out the partitions
//!   of these topics: `group`.
//! * **Memory.** The index is a due time and an offset for each message. Only the messages that fall due next have
//!   their contents in memory. Other contents are read again when it is their turn: `index`, `reload`.
//! * **A successor** reads from the lowest offset that waits, which the owner commits.
//! * **Failures.** If a topic refuses all messages, its partition waits longer and longer. If one message alone is
//!   refused, it is tried again later, and the others go on: `forwarding`. A forwarder that fails or panics is
//!   started again.

mod forwarder;
mod forwarders;
mod forwarding;
mod group;
mod index;
mod leases;
mod memory;
mod owned;
mod reload;

pub(crate) use self::forwarder::DelayForwarder;
pub(crate) use self::forwarders::DelayForwarders;
pub(crate) use self::leases::{Lease, Leases};
