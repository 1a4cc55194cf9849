//! Delayed messages.
//!
//! Kafka has no delay. So a delayed message waits in a compacted topic with as many partitions as its own. Each
//! process that consumes the topic also runs the forwarder of its delayed messages. The consumer group
//! `partitura-timers.TOPIC` gives each partition of the compacted topic to one process. That process reads it into
//! an index. When a message is due, it publishes the message to its topic, waits for the confirm, and only then
//! writes a tombstone. After a crash in between, the message is published once more under the same id.
//!
//! * **Memory.** The index is a due time and an offset for each message. Only the messages that fall due next have
//!   their contents in memory. Other contents are read again when it is their turn: `index`, `reload`.
//! * **A successor** reads from the lowest offset that waits, which the owner commits.
//! * **Failures.** If a topic refuses all messages, its partition waits longer and longer. If one message alone is
//!   refused, it is tried again later, and the others go on: `forwarding`. A forwarder that fails or panics is
//!   started again.

mod forwarder;
mod forwarders;
mod forwarding;
mod index;
mod memory;
mod reload;

pub(crate) use self::forwarder::DelayForwarder;
pub(crate) use self::forwarders::DelayForwarders;
