//! Durable workflow orchestration in plain Rust on the message broker you already run.
//!
//! A workflow is an async function that survives crashes, deployments and months of waiting. It calls services, plain
//! traits with plain implementations; every call, timer and signal is a message through the broker, and every step is
//! recorded before it counts.
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
//! * [`messaging`] is for whoever wants queues and streams alone, [`contract`] for who writes an adapter.

mod connect;
#[cfg(feature = "testing")]
pub mod testing;

pub use connect::{Connect, broker, connect};
pub use partitura_broker::{Error, ErrorKind};
pub use partitura_engine::{
    Builder, Client, ClientError, Filter, Partitura, Request, RunningWorker, Start, StartPolicy, Status, StatusKind,
    Summary, TaskContext, Waiting, Worker, WorkflowError, WorkflowHandle,
};
pub use partitura_macros::{select, service, workflow};
#[doc(hidden)]
pub use partitura_workflow::__private;
pub use partitura_workflow::{
    Cancelled, Channel, Child, ChildError, ChildHandle, ChildRun, Cx, Failure, FailureKind, Never, Payload,
    PayloadError, Query, QueryError, Receive, ReceiveError, Retry, Saga, Service, Signal, Sleep, StepRun, Task,
    TaskError, TaskHandle, TaskOptions, Until, Workflow, days, hours, join, join_all, millis, minutes, seconds,
    try_join, try_join_all,
};

/// Histories and their replay: for tools, and for tests that check recorded histories against today's code.
pub mod history {
    pub use partitura_workflow::{
        Definition, Event, EventKind, Execution, HISTORY_FORMAT, ParentRef, Started, Step, Stop, StopReason, Turn,
    };
}

/// The events that workflows and services publish: CloudEvents, for any subscriber.
pub mod events {
    pub use partitura_engine::{CloudEvent, TaskEvent};
}

/// Messaging without workflows: typed queues and streams, retries, dead letters.
pub mod messaging {
    pub use partitura_lanes::*;
}

/// What every broker promises: for adapters, and for whoever needs to go below [`messaging`].
pub mod contract {
    pub use partitura_broker::*;
}
