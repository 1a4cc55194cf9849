//! Partitura's conductor: workers that run workflows and services on any broker, and the client that talks to them.
//!
//! One *turn* of a workflow, for the commands that arrive in its lane:
//!
//! ```text
//! receive ─► load (cache, else replay) ─► advance the code ─► commit {history, summary, messages, settlement}
//!                                                          └► without transactions: persist ─► publish ─► settle
//! ```
//!
//! * Where the broker has [transactions](partitura_broker::Transactions), a turn is one atomic write. Elsewhere a
//!   [`Store`] keeps history and outbox in one write, the outbox is published, then the input is settled. The outbox
//!   belongs to the partition: the next owner sends what a crash left unsent, under the same ids.
//! * **The fence.** A turn's history is written under the next number of its run, which must not exist. Of two owners
//!   who overlap, one gets a conflict and loads anew.
//! * **Results** of tasks, timers, children and steps come back as commands keyed to the instance, so that it sees one
//!   ordered stream.
//!
//! Start with [`Partitura`].

mod beside;
mod children;
mod client;
mod conductor;
mod context;
mod directory;
mod effects;
mod error;
mod event_streams;
mod events;
mod handle;
mod heartbeats;
mod history;
mod ids;
mod instance;
mod journal;
mod listeners;
mod mailbox;
mod names;
mod namespace;
mod outbox;
mod partitura;
mod patience;
mod requests;
mod sizes;
mod steps;
mod store;
mod summary;
mod task;
mod timekeeper;
mod turn;
mod unneeded;
mod waiting;
mod wire;
mod worker;

pub use client::Client;
pub use context::TaskContext;
pub use error::{ClientError, WorkflowError};
pub use event_streams::Events;
pub use events::{CloudEvent, TaskEvent};
pub use handle::WorkflowHandle;
pub use ids::{Ids, SystemIds};
pub use partitura::{Builder, Partitura, ReplayValues};
#[doc(hidden)]
pub use patience::patiently;
pub use requests::{Request, Start};
pub use store::{BrokerStore, Store};
pub use summary::{Filter, HeldUp, Status, StatusKind, Summary};
pub use timekeeper::ClockOffset;
pub use waiting::Waiting;
pub use wire::StartPolicy;
pub use worker::{RunningWorker, Worker};
