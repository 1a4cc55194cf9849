//! The interface for workflow authors, and its deterministic replay.
//!
//! A workflow is an `async fn` that this crate polls by itself. Whatever the function awaits (tasks, timers, children,
//! signals, steps) is a future of ours; what it asks for comes out as *commands*, what happened to it goes in as
//! *inputs*, and both are [`Event`]s of one append-only history. Feeding the history to the same code rebuilds the same
//! instance.
//!
//! The crate is pure: no runtime, no clock, no system randomness, no broker, no I/O. The engine owns an [`Execution`]
//! and drives it:
//!
//! ```text
//!  Definition::for_workflow::<W>() ─► Execution::start(started) ─► Turn { events, steps }
//!                           Execution::apply(input)   ─► Turn { events, steps }
//!                           Execution::replay(history)─► Turn { what the code asks for beyond the history }
//! ```
//!
//! * Authors: [`Cx`], [`Task`], [`Sleep`], [`Channel`], [`Child`], [`Saga`], [`Retry`].
//! * Engine: [`Definition`], [`Execution`], [`Turn`], [`Stop`], [`Event`], [`Service`].

#[doc(hidden)]
pub mod __private;
mod args;
mod attribute;
mod batch;
mod channel;
mod child;
mod core;
mod cx;
mod definition;
mod duration;
mod errors;
mod event;
mod event_display;
mod event_role;
mod execution;
mod failure;
mod handlers_ended;
mod id;
mod limit;
mod lists;
mod options;
mod other;
mod parent_end;
mod payload;
mod random;
mod saga;
mod service;
mod shielded;
mod started;
mod step;
mod stub;
mod task;
mod timer;
mod trace_context;
mod until;
mod update;
mod workflow;

pub use self::core::FitCheck;
pub use attribute::Attribute;
pub use batch::{Answers, BatchOptions};
pub use channel::{Channel, Receive};
pub use child::{Child, ChildHandle, ChildRun};
pub use cx::Cx;
pub use definition::Definition;
pub use duration::{days, hours, millis, minutes, seconds};
pub use errors::{Cancelled, ChildError, QueryError, ReceiveError, SendError, TaskError, UpdateRefusal};
pub use event::{Event, EventKind, HISTORY_FORMAT, RULES};
pub use execution::{Difference, Execution, Step, Stop, StopReason, Turn};
pub use failure::{Failure, FailureKind, Never, TaskFailure, Transient};
pub use handlers_ended::HandlersEnded;
pub use id::{InvalidId, MAX_ID, check_id};
pub use limit::Limit;
pub use options::{DEFAULT_TIMEOUT, OwnErrors, TaskOptions};
#[doc(hidden)]
pub use other::Other;
pub use parent_end::ParentEnd;
pub use partitura_retry::Retry;
pub use payload::{Payload, PayloadError, TooLarge};
pub use random::Random;
pub use saga::Saga;
pub use service::{MethodInfo, Service};
pub use shielded::Shielded;
pub use started::{CancelRequest, Continued, EarlierUpdate, ParentRef, Started};
pub use step::StepRun;
pub use stub::ServiceStub;
pub use task::{Caller, Task, TaskHandle};
pub use timer::Sleep;
pub use trace_context::TraceContext;
pub use until::Until;
pub use update::{Answer, HandlerFuture, Update};
pub use workflow::{Query, Signal, Workflow};

/// Points in time and time zones: `cx.now()` is a `jiff::Timestamp`.
pub use jiff;
/// A moment, of the crate `jiff`.
pub use jiff::Timestamp;

/// Awaits several futures of one workflow at the same time; results come in the order of the arguments.
pub use futures::{future::join_all, future::try_join_all, join, try_join};
