//! The state of workflows in Postgres, for brokers that cannot keep it.
//!
//! [`PostgresStore`] is a [`Store`](partitura_engine::Store): versioned key-values, written in groups that are stored
//! entirely or not at all. It keeps the promises of a store as follows:
//!
//! * **One round trip for many groups.** Calls of [`write`](partitura_engine::Store::write) are collected while a
//!   commit is on its way, and sent together as one statement with arrays. Under more load one sync of the log carries
//!   more groups.
//! * **The fence is in that statement.** It compares the versions of all groups, drops the groups whose expectations do
//!   not hold, and writes the others. Rows with an expectation are locked by the comparison; a key that must be absent
//!   is claimed by the primary key. If another writer adds it between the two, the whole statement fails and is sent
//!   again. So nothing is written because of a state that is no longer true.
//! * **Each batch has a receipt.** The same statement notes the number of the batch and its answer in the writer's row. If
//!   the connection breaks before the answer comes, the next connection gives the batch up, or reads that it was written
//!   and how it was answered. A batch that was given up is sent again: its first statement can no longer write, though
//!   it may still be running. Only if no server answers for the time of a request, the outcome is unknown.
//! * **Each group by itself.** A batch holds every key once, so the write of one group cannot depend on the refusal of
//!   another. A group with a key that is being written waits for the answer to that write.
//! * **Durable when answered.** The connection sets `synchronous_commit`; a stricter setting of the server is kept.
//! * **Keys are `bytea`**, whose order is that of the bytes.
//!
//! The values are in one table, `entry`, partitioned by space, so that the short-lived rows of the outbox do not slow down the
//! vacuum of histories; the receipts are in `writer`. [`Options::migrate`] creates both or only verifies them; see
//! docs/adr/0008-one-statement-per-commit.md for what else was tried, and docs/adr/0056-a-batch-has-a-receipt.md.
//!
//! One promise is weaker than in the embedded store. A [`Put`](partitura_broker::Put) that expects a key to be
//! [`Absent`](partitura_broker::Expect::Absent) and removes it is a check without a write. It sees the state
//! at the beginning of the commit, and other writers can add the key meanwhile. The engine does not use such a
//! put.

mod batch;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod options;
mod schema;
mod statement;
mod store;
mod write_queue;
mod writer;

pub use options::Options;
pub use store::PostgresStore;
