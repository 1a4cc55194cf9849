//! Partitura on NATS JetStream: server 2.12 or later, client `async-nats`.
//!
//! ```no_run
//! # async fn example() -> Result<(), partitura_broker::Error> {
//! use partitura_nats::{Nats, Options};
//!
//! let broker = Nats::connect("nats://localhost:4222", Options::default()).await?;
//! # Ok(()) }
//! ```
//!
//! # How each promise is kept
//!
//! A topic is a stream: a queue has work-queue retention, a stream interest retention. Its partitions are subjects. A
//! subscription is one durable consumer for each partition.
//!
//! * **One owner.** The consumer of a partition pushes to a subject of its owner. A member claims the partition by
//!   asking the server to push to another subject. The server does so only while no client is subscribed to the old
//!   one: the owner's connection *is* its lease. The lease ends with the process, needs no clock and no renewal, and
//!   two members can never have it.
//! * **Order on take-over.** After the change of the subject, the server sends everything unacknowledged again, and
//!   only then new messages. The new owner sorts the former before it gives any out. Messages that were acknowledged
//!   out of order stay so.
//! * **Order on the way in.** One connection has many messages under way. They are stored in the order in which they
//!   were written; if the connection breaks, none is stored from some message on. A connection is never revived:
//!   everything in it fails, and a new one is opened. In a cluster a message waits for the confirm of the earlier one
//!   of its key.
//! * **Settlement** is the acknowledgement of single messages, in any order. A flush is an acknowledgement with an
//!   answer.
//! * **Delay** is the server's message schedules. A message that is not due yet is on a subject of its own, which is
//!   purged to cancel it. The server passes it on a little early, and the consumer holds it until it is due.
//! * **Shared topics** have one pull consumer for all members. A member tells the server every few seconds that its
//!   messages are in progress.
//! * **Broadcasts** are consumers that the server removes after their listener is gone. **Inboxes** and the members'
//!   heartbeats are core NATS.
//!
//! # The files
//!
//! The files without a mark are those of every adapter. `+` marks files that NATS needs. A file imports only files
//! above it.
//!
//! ```text
//! options.rs  error.rs  names.rs  wire.rs    no state: settings, errors, names, messages
//! faults.rs        + known faults of servers
//! requirements.rs  + what a topic needs of its stream
//! acks.rs          + Acks: acknowledgements, sent in the background
//! confirms.rs      + Confirms: confirms of published messages, by number
//! deletions.rs     + Deletions: notices of deleted consumers
//! client.rs          Connector, Connection: one connection, for as long as it lasts
//! topics.rs          Topics, KnownTopic: what streams say of their topics
//! core.rs            Core: the state that all parts share
//! consumers.rs     + the server's consumers, and their configurations
//! topology.rs        declares
//! delay.rs           schedules and cancels delayed messages
//! claim/             PushClaim: an ordered partition, or a broadcast; PullClaim: a shared topic
//! claims.rs          OrderedClaims, SharedClaims, BroadcastClaims; `Member` makes consumers of them
//! inbox.rs           NatsInbox: replies
//! producer.rs        NatsProducer: many messages under way
//! nats.rs            Nats: the broker
//! ```

mod acks;
mod claim;
mod claims;
mod client;
mod confirms;
mod consumers;
mod core;
mod delay;
mod deletions;
mod error;
mod faults;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod inbox;
mod names;
mod nats;
mod options;
mod producer;
mod requirements;
mod topics;
mod topology;
mod wire;

pub use nats::Nats;
pub use options::{Auth, Options};
