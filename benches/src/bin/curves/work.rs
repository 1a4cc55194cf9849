//! The workflows, written as a user writes them.

use std::sync::atomic::{AtomicU64, Ordering};

use partitura::{Cx, Never, TaskError, Worker, join_all};

/// The number of tasks in each run of a workflow that continues as new.
const IN_A_RUN: u32 = 500;

/// The number of tasks that have run.
pub(crate) static DONE: AtomicU64 = AtomicU64::new(0);

#[partitura::service]
pub(crate) trait Counter {
    async fn add(&self, number: u32) -> u32;
}

struct One;

impl Counter for One {
    async fn add(&self, number: u32) -> u32 {
        DONE.fetch_add(1, Ordering::SeqCst);
        number + 1
    }
}

/// The task has no error of its own.
type Failed = TaskError<Never>;

/// One task after the other.
#[derive(Default)]
pub(crate) struct InSequence;

#[partitura::workflow]
impl InSequence {
    #[run]
    async fn run(cx: Cx<Self>, tasks: u32) -> Result<u32, Failed> {
        let counter = cx.service::<CounterStub>();
        let mut number = 0;
        while number < tasks {
            number = counter.add(number).await?;
        }
        Ok(number)
    }
}

/// All tasks at once.
#[derive(Default)]
pub(crate) struct Wide;

#[partitura::workflow]
impl Wide {
    #[run]
    async fn run(cx: Cx<Self>, tasks: u32) -> Result<u32, Failed> {
        let counter = cx.service::<CounterStub>();
        let mut number = 0;
        for done in join_all((0..tasks).map(|number| counter.add(number))).await {
            done?;
            number += 1;
        }
        Ok(number)
    }
}

/// One task after the other, in as many runs as it takes.
#[derive(Default)]
pub(crate) struct Endless;

#[partitura::workflow]
impl Endless {
    #[run]
    async fn run(cx: Cx<Self>, (mut number, tasks): (u32, u32)) -> Result<u32, Failed> {
        let counter = cx.service::<CounterStub>();
        let end = tasks.min(number + IN_A_RUN);
        while number < end {
            number = counter.add(number).await?;
        }
        if number < tasks {
            return cx.continue_as_new((number, tasks)).await;
        }
        Ok(number)
    }
}

/// Registers all of this with a worker.
pub(crate) fn register(worker: Worker) -> Worker {
    worker.service(CounterService(One)).workflow::<InSequence>().workflow::<Wide>().workflow::<Endless>()
}
