//! The template for adapters: Partitura on tables of Postgres, small enough to be read at once. Copy this directory.
//!
//! It keeps every promise of the contract, and passes the conformance suite. It has no speed, no migrations and no URL
//! in the facade, which takes it like the adapter of any author: `Partitura::on(Arc::new(broker))`.
//!
//! ```no_run
//! # async fn example() -> Result<(), partitura_broker::Error> {
//! use std::sync::Arc;
//!
//! use partitura_broker::Broker;
//! use partitura_template::{Options, Template};
//!
//! let broker = Template::connect("postgres://ada:secret@localhost/app", Options::default()).await?;
//! let broker: Arc<dyn Broker> = Arc::new(broker); // the argument of `Partitura::on`, and of the suite
//! # Ok(()) }
//! ```
//!
//! # How each promise is kept
//!
//! `schema.sql` has the tables, and the important statements. A *line* is the log of one reader: a partition of a
//! topic, for one subscription. A message is copied to each line of its topic.
//!
//! * **One owner.** A claim takes an advisory lock, in a session. The server drops the lock with the session: at once
//!   if its process ends, after `idle_session_timeout` if its machine is silent. Settlements use the same session, so
//!   an owner that lost the lock can settle nothing.
//! * **Order on take-over.** A message that is read is marked with its owner. A new owner frees the messages of the
//!   last one, and reads from the front.
//! * **Order on the way in.** Numbers from a sequence are drawn before the commit, so a reader could see 8, and then 7.
//!   Publishing therefore locks the lines first, and their numbers are in the order of the commits.
//! * **Settlement** deletes, in any order.
//! * **Delay** is a column. A message that is not due has no place in its line. It gets one, at the end, when it is
//!   due.
//! * **Shared topics** are lines without a lock of their own. Each member holds a lock that only shows that it lives.
//!   The messages of a dead member are free again.
//! * **Broadcasts** and **inboxes** are lines that end with their owner.
//! * **Waiting** is `LISTEN`, with a read every few seconds in case a notice was lost.
//!
//! # The files
//!
//! The files without a mark are those of every adapter. `+` marks files that Postgres needs. A file imports only files
//! above it.
//!
//! ```text
//! options.rs  error.rs  names.rs  wire.rs    no state: settings, errors, names, messages as rows
//! client.rs          Session: one connection, and the task that uses it
//! core.rs            Core: the state that all parts share
//! topics.rs          DeclaredTopic: what the tables say of a topic
//! topology.rs        creates the tables (schema.sql), and declares
//! notices.rs       + Notices: one connection that listens, for all
//! publish_queue.rs + PublishQueue: one session that publishes, for all producers
//! delay.rs           cancels delayed messages
//! lease.rs         + Lease: the lock of a line
//! claim.rs           LineClaim: the messages of a line that a member owns
//! claims.rs          TemplateClaims: a member and its session; `Member` makes a consumer of it
//! inbox.rs           TemplateInbox: replies, from a line of the inbox's own
//! producer.rs        TemplateProducer
//! template.rs        Template: the broker
//! ```

mod claim;
mod claims;
mod client;
mod core;
mod delay;
mod error;
mod inbox;
mod lease;
mod names;
mod notices;
mod options;
mod producer;
mod publish_queue;
mod template;
mod topics;
mod topology;
mod wire;

pub use options::Options;
pub use template::Template;

/// The code of its page is compiled.
#[cfg(doctest)]
mod page {
    #[doc = include_str!("../../../docs/brokers/template.md")]
    struct Page;
}
