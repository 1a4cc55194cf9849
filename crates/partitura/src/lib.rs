//! Durable workflow orchestration in plain Rust on the message broker you already run.

mod connect;
#[cfg(feature = "testing")]
pub mod testing;

pub use connect::{Connect, broker, connect};
pub use partitura_broker::{Error, ErrorKind};
pub use partitura_engine::{
    Builder, Client, ClientError, Filter, Partitura, RunningWorker, Start, StartPolicy, Status, Summary, TaskContext,
    Worker, WorkflowError, WorkflowHandle,
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

/// Messaging without workflows: the contract, and the lanes above it.
pub mod messaging {
    pub use partitura_broker::*;
    pub use partitura_lanes::*;
}
