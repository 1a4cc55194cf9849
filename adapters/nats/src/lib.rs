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
//! A topic is a stream, a queue with work-queue retention and a stream with interest retention; its partitions are subjects.
//! A subscription is one durable consumer for each partition.
//!
//! * **One owner.** The consumer of a partition pushes to a subject of its owner's. To claim it is to ask the server to push
//!   to another subject, which it does only while nobody is subscribed to the old one: the owner's connection *is* its lease.
//!   It ends with the process, needs no clock and no renewal, and two can never have it.
//! * **Order on take-over.** With the new subject, the server sends everything unacknowledged again, and only then what is
//!   new. The new owner sorts the former before it gives anything out. What was acknowledged out of order stays so.
//! * **Order on the way in.** One connection, many messages under way: what is written to a connection is stored in that
//!   order or, when it breaks, not at all from some message on. A connection is never revived: everything in it fails, and a
//!   new one is opened. In a cluster a message waits for the confirm of the one before it of its key.
//! * **Settlement** is the acknowledgement of single messages, in any order; a flush is an acknowledgement with an answer.
//! * **Delay** is the server's message schedules. A message that is not due yet lies on a subject of its own, which is purged
//!   to cancel it. The server passes it on a little early, and the consumer holds it until it is due.
//! * **Shared topics** have one pull consumer for all. What a member holds it says so of every few seconds.
//! * **Broadcasts** are consumers that go away after their listener; **inboxes** and the members' beats are core NATS.
//!
//! # Who does what
//!
//! ```text
//! Nats ─┬─ Connection ── Link          one connection, for as long as it lasts
//!       ├─ NatsProducer ── Confirms    many messages under way, their confirms by number
//!       ├─ Member<Owners> ── Owned ── Replay
//!       │        <Competitors> ── Shared
//!       │        <Listener> ── Owned
//!       └─ NatsInbox
//! ```

mod acks;
mod cancel;
mod confirms;
mod consumers;
mod delay;
mod deletions;
mod error;
mod faults;
mod fitness;
mod group;
mod inbox;
mod link;
mod names;
mod nats;
mod options;
mod owned;
mod prefetch;
mod producer;
mod replay;
mod shared;
mod topics;
mod topology;
mod wire;

pub use nats::Nats;
pub use options::{Auth, Options};
