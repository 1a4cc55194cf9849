//! Durable workflow orchestration in plain Rust on the message broker you already run.
//!
//! A workflow is an async function that survives crashes, deployments and months of waiting. It calls services, which
//! are plain traits with plain implementations. Every call, timer and signal is a message through the broker, and
//! everything that the function awaits is recorded in its history.
//!
//! ```
//! use partitura::{Cx, TaskError, minutes, select};
//!
//! #[partitura::service]
//! pub trait Greetings {
//!     async fn compose(&self, name: String) -> String;
//! }
//!
//! struct Polite;
//!
//! impl Greetings for Polite {
//!     async fn compose(&self, name: String) -> String {
//!         format!("Good morning, {name}")
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Greet { awake: bool }
//!
//! #[partitura::workflow]
//! impl Greet {
//!     #[run]
//!     async fn run(cx: Cx<Self>, name: String) -> Result<String, TaskError<partitura::Never>> {
//!         select! {
//!             _ = cx.until(|greet: &Greet| greet.awake) => {},
//!             _ = cx.sleep(minutes(90)) => {}, // however often we crash meanwhile
//!         }
//!         cx.service::<GreetingsStub>().compose(name).await
//!     }
//!
//!     #[signal]
//!     fn wake(&mut self) { self.awake = true }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let partitura = partitura::connect("memory:").await?; // or "embedded:./data"
//! let worker = partitura.worker().service(GreetingsService(Polite)).workflow::<Greet>().start().await?;
//!
//! let greet = partitura.client().workflow::<Greet>("greet-ada");
//! greet.start("Ada".to_owned()).await?;
//! greet.signal(GreetSignal::wake()).await?;
//! assert_eq!(greet.result().await?, "Good morning, Ada");
//! # worker.stop().await?;
//! # Ok(()) }
//! ```
//!
//! * [`connect`] opens a broker by URL; [`Partitura`] makes [workers](Worker) and [clients](Client) from it.
//! * [`service`] and [`workflow`] are the two macros; [`Cx`] is what a workflow may ask of the world.
//! * `testing` (with the feature of that name) runs the real engine in virtual time.
//! * [`messaging`] has queues and streams without workflows; [`contract`] is what an adapter implements.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod connect;
#[cfg(feature = "testing")]
pub mod testing;

pub use connect::{Connect, broker, connect, operator_commands, store};
pub use partitura_broker::{Error, ErrorKind};
pub use partitura_engine::{
    ActionEnd, BrokerStore, Builder, Bulk, BulkReport, CheckReport, Client, ClientCall, ClientError, ClockOffset,
    Completion, Cursor, Destination, Filter, Health, HeldUp, HistoryLimits, HistoryPage, Ids, InstanceCount,
    InstanceFilter, InstanceHandle, InstanceName, InstancePage, Instances, InvalidCursor, InvalidDestination,
    InvalidInstanceName, InvalidPausable, InvalidToken, Layer, Living, Misfit, Next, Order, Overlap, Partitura,
    Pausable, PauseReceipt, Paused, PayloadCodec, Propagator, Recurrence, ReplayValues, Request, Retention,
    RunningWorker, ScheduleBuilder, ScheduleDescription, ScheduleHandle, ScheduleSpecification, ScheduledStart, Served,
    Start, StartPolicy, StartReceipt, StartWithUpdate, Status, StatusKind, Store, Summary, SystemIds, TaskCall,
    TaskContext, TaskResult, TaskToken, TokenRefusal, TopicNames, TurnCall, TurnResult, UpdateError, UpdateRequest,
    Versions, Waiting, Worker, WorkflowError, WorkflowHandle,
};
pub use partitura_macros::{select, service, workflow};
#[doc(hidden)]
pub use partitura_workflow::__private;
pub use partitura_workflow::{
    Attribute, Cancelled, Channel, Child, ChildError, ChildHandle, ChildRun, Cx, Failure, FailureKind, HandlersEnded,
    InvalidId, Limit, Never, ParentEnd, Payload, PayloadError, Query, QueryError, Receive, ReceiveError, Retry, Saga,
    SendError, Service, Shielded, Signal, Sleep, StepRun, Task, TaskError, TaskFailure, TaskHandle, TaskOptions,
    Timestamp, TraceContext, Transient, Until, Update, UpdateRefusal, Workflow, days, hours, jiff, join, join_all,
    millis, minutes, seconds, try_join, try_join_all,
};

/// Histories and their replay: for tools, and for tests that check recorded histories against today's code.
pub mod history {
    pub use partitura_workflow::{
        Definition, Difference, Event, EventKind, Execution, HISTORY_FORMAT, ParentRef, RULES, Started, Step, Stop,
        StopReason, Turn,
    };
}

/// The events that workflows and services publish, as CloudEvents. [`Partitura::events`] makes subscriptions to them.
///
/// ```
/// # #[partitura::service] pub trait Payments { async fn charge(&self, order: String); }
/// # struct Acquirer;
/// # impl Payments for Acquirer { async fn charge(&self, _order: String) {} }
/// # #[derive(Default)] pub struct Checkout;
/// # #[partitura::workflow] impl Checkout {
/// #     #[run] async fn run(cx: partitura::Cx<Self>, order: String) -> Result<(), partitura::TaskError<partitura::Never>> {
/// #         cx.service::<PaymentsStub>().charge(order).await
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use partitura::events::{CloudEvent, TaskEvent};
/// use tokio::sync::mpsc;
///
/// let partitura = partitura::connect("memory:").await?;
/// let charges = partitura.events().tasks::<PaymentsStub>("audit").await?;
///
/// let (seen, mut audit) = mpsc::unbounded_channel();
/// let auditing = charges.process(move |event: CloudEvent<TaskEvent>| {
///     let seen = seen.clone();
///     async move { seen.send(format!("{} {}", event.kind, event.data.method)) } // an error is tried again
/// });
/// let auditing = tokio::spawn(auditing.run_until(std::future::pending::<()>()));
///
/// let worker = partitura.worker().service(PaymentsService(Acquirer)).workflow::<Checkout>().start().await?;
/// let checkout = partitura.client().workflow::<Checkout>("order-42");
/// checkout.start("order-42".to_owned()).await?;
/// checkout.result().await?;
/// assert_eq!(audit.recv().await.as_deref(), Some("partitura.task.started charge"));
/// assert_eq!(audit.recv().await.as_deref(), Some("partitura.task.completed charge"));
/// # auditing.abort();
/// # worker.stop().await?;
/// # Ok(()) }
/// ```
pub mod events {
    pub use partitura_engine::{CloudEvent, Events, TaskEvent};
}

/// Messaging without workflows: typed queues and streams, retries, dead letters.
pub mod messaging {
    pub use partitura_lanes::*;
}

/// The promises of every broker: for adapters, and for programs that need more than [`messaging`] offers.
pub mod contract {
    pub use partitura_broker::*;
}

/// The code of the guides is compiled and run.
#[cfg(all(doctest, feature = "embedded"))]
mod guides {
    #[doc = include_str!("../../../docs/guides/from-choreography.md")]
    struct FromChoreography;
    #[doc = include_str!("../../../docs/guides/workflows.md")]
    struct Workflows;
    #[doc = include_str!("../../../docs/guides/services.md")]
    struct Services;
    #[doc = include_str!("../../../docs/guides/messaging.md")]
    struct MessagingAlone;
    #[doc = include_str!("../../../docs/guides/coming-from.md")]
    struct ComingFrom;
    #[doc = include_str!("../../../docs/brokers/embedded.md")]
    struct Embedded;
    #[cfg(feature = "kafka")]
    #[doc = include_str!("../../../docs/brokers/kafka.md")]
    struct Kafka;
    #[cfg(feature = "nats")]
    #[doc = include_str!("../../../docs/brokers/nats.md")]
    struct Nats;
    #[cfg(feature = "pulsar")]
    #[doc = include_str!("../../../docs/brokers/pulsar.md")]
    struct Pulsar;
}
