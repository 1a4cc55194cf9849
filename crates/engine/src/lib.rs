//! Partitura's runner: workers that run workflows and services on any broker, and the client that talks to them.
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

mod builder;
mod client;
mod code;
mod core;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod layer;
mod messaging;
mod partitura;
mod pause;
mod retry_for;
mod schedule;
mod shutdown;
mod storage;
mod task;
mod telemetry;
mod timekeeper;
mod wire;
mod worker;
mod workflow;

pub use builder::Builder;
pub use client::Client;
pub use client::bulk::{Bulk, BulkReport};
pub use client::delegated::Completion;
pub use client::event_streams::Events;
pub use client::handle::WorkflowHandle;
pub use client::instance::{HistoryPage, InstanceHandle};
pub use client::instances::Instances;
pub use client::pausing::PauseReceipt;
pub use client::requests::Request;
pub use client::start::{Start, StartReceipt, StartWithUpdate};
pub use client::update::UpdateRequest;
pub use client::versions::{Living, Versions};
pub use core::ReplayValues;
pub use error::{ClientError, UpdateError, WorkflowError};
pub use health::Health;
pub use layer::{ClientCall, Layer, Next, TaskCall, TaskResult, TurnCall, TurnResult};
pub use messaging::directory::{Destination, InvalidDestination};
pub use partitura::{Partitura, TopicNames};
pub use partitura_codec::PayloadCodec;
#[doc(hidden)]
pub use retry_for::retry_for;
pub use schedule::builder::ScheduleBuilder;
pub use schedule::description::{ActionEnd, ScheduleDescription, ScheduledStart};
pub use schedule::handle::ScheduleHandle;
pub use schedule::specification::{Overlap, Recurrence, ScheduleSpecification};
#[doc(hidden)]
pub use schedule::workflow::ScheduleWorkflow;
pub use storage::pauses::{InvalidPausable, Pausable, Paused};
pub use storage::served::Served;
pub use storage::store::{BrokerStore, Store};
pub use task::context::TaskContext;
pub use telemetry::propagator::Propagator;
pub use timekeeper::ClockOffset;
pub use wire::StartPolicy;
pub use wire::events::{CloudEvent, TaskEvent};
pub use wire::find::{
    Cursor, InstanceCount, InstanceFilter, InstanceName, InstancePage, InvalidCursor, InvalidInstanceName,
};
pub use wire::ids::{Ids, SystemIds};
pub use wire::summary::{Filter, HeldUp, Order, Status, StatusKind, Summary};
pub use wire::token::{InvalidToken, TaskToken, TokenRefusal};
pub use wire::waiting::Waiting;
pub use worker::{CheckReport, Misfit, RunningWorker, Worker};
pub use workflow::history_limits::HistoryLimits;
pub use workflow::retention::Retention;
