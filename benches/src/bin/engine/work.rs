//! The workflows and tasks of the other engines' benchmarks, written as a user writes them.

use std::time::Instant;

use partitura::{Cancelled, Cx, Never, ReceiveError, TaskError, Worker, join_all, seconds};

/// Three trivial tasks.
#[partitura::service]
pub(crate) trait Tasks {
    async fn one(&self, text: String) -> String;
    async fn two(&self, text: String) -> String;
    async fn three(&self, text: String) -> String;
}

struct Dots;

impl Tasks for Dots {
    async fn one(&self, text: String) -> String {
        text + "."
    }
    async fn two(&self, text: String) -> String {
        text + "."
    }
    async fn three(&self, text: String) -> String {
        text + "."
    }
}

/// The tasks have no error of their own.
type Failed = TaskError<Never>;

/// Three tasks in a row.
#[derive(Default)]
pub(crate) struct Seq;

#[partitura::workflow]
impl Seq {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<String, Failed> {
        let tasks = cx.service::<TasksStub>();
        let text = tasks.one(text).await?;
        let text = tasks.two(text).await?;
        tasks.three(text).await
    }
}

/// Twenty tasks at once.
#[derive(Default)]
pub(crate) struct Fan;

#[partitura::workflow]
impl Fan {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<usize, Failed> {
        let tasks = cx.service::<TasksStub>();
        let mut length = 0;
        for answer in join_all((0..20).map(|_| tasks.one(text.clone()))).await {
            length += answer?.len();
        }
        Ok(length)
    }
}

/// One durable timer of a second; the result is its lateness in milliseconds.
#[derive(Default)]
pub(crate) struct Timer;

#[partitura::workflow]
impl Timer {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<f64, Cancelled> {
        // A workflow must not read the wall clock. Here it is measured, as in the other benchmarks, and is right while
        // the instance stays in memory.
        let set = Instant::now();
        cx.sleep(seconds(1)).await?;
        Ok(set.elapsed().as_secs_f64() * 1e3 - 1e3)
    }
}

/// Waits for a signal.
#[derive(Default)]
pub(crate) struct Waiting;

#[partitura::workflow]
impl Waiting {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, ReceiveError> {
        cx.channel::<String>("go").recv().await
    }
}

/// Registers all of this with a worker.
pub(crate) fn register(worker: Worker) -> Worker {
    worker.service(TasksService(Dots)).workflow::<Seq>().workflow::<Fan>().workflow::<Timer>().workflow::<Waiting>()
}
