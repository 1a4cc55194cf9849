//! The template for adapters: Partitura on tables of Postgres, small enough to be read in one sitting. Copy this directory.
//!
//! It keeps every promise of the contract, and passes the conformance suite. What it does not have is speed, migrations, and
//! a URL in the facade, which takes it like anybody's: `Partitura::on(Arc::new(broker))`.
//!
//! ```no_run
//! # async fn example() -> Result<(), partitura_broker::Error> {
//! use std::sync::Arc;
//!
//! use partitura_broker::Broker;
//! use partitura_template::{Options, Template};
//!
//! let broker = Template::connect("postgres://ada:secret@localhost/app", Options::default()).await?;
//! let broker: Arc<dyn Broker> = Arc::new(broker); // all that `Partitura::on` and the suite ask for
//! # Ok(()) }
//! ```
//!
//! # How each promise is kept
//!
//! `schema.sql` has the tables, and the statements that matter. A *line* is what one reader reads: a partition of a topic, for
//! one subscription. A message is copied to each line of its topic.
//!
//! * **One owner.** To claim a partition is to take an advisory lock, in a session. The server drops the lock with the
//!   session: at once when its process ends, after `idle_session_timeout` when its machine is silent. Settlements go by
//!   the same session, so whoever lost the lock can settle nothing.
//! * **Order on take-over.** What is read is marked as its owner's. A new owner frees what the last one had, and reads from the
//!   front.
//! * **Order on the way in.** Numbers from a sequence are drawn before the commit, so a reader could see 8, and then 7. Here the
//!   lines are locked first: their numbers are in the order of the commits.
//! * **Settlement** deletes, in any order.
//! * **Delay** is a column. What is not due has no place in its line; it gets one, at the end, when it is.
//! * **Shared topics** are lines without a lock of their own. Each member holds a lock that only says that it lives, and what
//!   a dead one had is free again.
//! * **Broadcasts** and **inboxes** are lines that end with their owner.
//! * **Waiting** is `LISTEN`, with a look every few seconds in case a notice got lost.
//!
//! # Who does what
//!
//! ```text
//! Template ─┬─ Notices                        one connection that listens, for all
//!           ├─ TemplateProducer ── Session    one connection that publishes, for all
//!           ├─ Member<Group> ── Session       one connection for each consumer, which owns what it claims
//!           │            └ LineClaim ── Lease
//!           └─ TemplateInbox ── LineClaim     a consumer of its own line
//! ```

mod claim;
mod error;
mod inbox;
mod lease;
mod notices;
mod options;
mod producer;
mod session;
mod template;
mod topology;
mod wire;

pub use options::Options;
pub use template::Template;
