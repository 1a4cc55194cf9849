//! The state of workflows in Postgres, for brokers that cannot keep it.
//!
//! [`PostgresStore`] is a [`Store`](partitura_engine::Store): versioned key-values, written in groups that are stored
//! entirely or not at all. How it keeps what a store promises:
//!
//! * **One round trip for many groups.** Calls of [`write`](partitura_engine::Store::write) are collected while a
//!   commit is on its way, and sent together as one statement with arrays: the more is to be written, the more one sync of the log carries.
//! * **The fence is in that statement.** It compares the versions of all groups, drops the groups whose
//!   expectations do not hold, and writes the others. Rows with an expectation are locked by the comparison; a key that was to be
//!   absent is claimed by the primary key. Somebody who comes between the two makes the whole statement fail, and it
//!   is sent again: nothing is ever written on the strength of what was true once.
//! * **Each group by itself.** A batch holds every key once, so what one group writes cannot depend on whether another
//!   was refused. A group whose key is being written already waits for the answer to that.
//! * **Durable when answered.** The connection insists on `synchronous_commit`; a stricter setting of the server's is kept.
//! * **Keys are `bytea`**, whose order is that of the bytes.
//!
//! There is one table, `entry`, partitioned by space, so that the short-lived rows of the outbox do not slow down the vacuum of
//! histories. [`Options::migrate`] creates it or only verifies it; see docs/adr/0008-one-statement-per-commit.md for
//! what else was tried.
//!
//! One thing is weaker than in the embedded store: a [`Put`](partitura_broker::Put) that expects a key to be
//! [`Absent`](partitura_broker::Expect::Absent) and removes it, a check without a write, sees the state at the
//! beginning of the commit and keeps nobody from adding the key meanwhile. The engine writes no such thing.

mod batch;
mod desk;
mod error;
mod options;
mod schema;
mod statement;
mod store;
mod writer;

pub use options::Options;
pub use store::PostgresStore;
