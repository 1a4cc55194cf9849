//! The workflows of the cluster, and its services, which note each call.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use partitura::{Cancelled, Cx, TaskContext, TaskError, Worker, millis};
use serde::{Deserialize, Serialize};

/// The tasks of a journey, with those of its child.
pub(crate) const TASKS: usize = 3;

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Lost(String);

impl<E: std::fmt::Display> From<TaskError<E>> for Lost {
    fn from(error: TaskError<E>) -> Self {
        Self(error.to_string())
    }
}

impl From<Cancelled> for Lost {
    fn from(cancelled: Cancelled) -> Self {
        Self(cancelled.to_string())
    }
}

#[partitura::service]
pub(crate) trait Stations {
    /// Gives the number back.
    async fn visit(&self, number: u32) -> Result<u32, Lost>;
    /// Gives the numbers back.
    #[batch(max = 20, within_ms = 20)]
    async fn count(&self, numbers: Vec<u32>) -> Vec<Result<u32, Lost>>;
}

/// A file with a line for each call: the idempotency key of its task.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: Arc<File>,
}

impl Ledger {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join("journeys.txt");
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        Ok(Self { path, file: Arc::new(file) })
    }

    /// One write for each call, so that lines of several processes do not mix.
    fn note(&self, task: &TaskContext) -> Result<(), Lost> {
        let line = format!("{}\n", task.idempotency_key());
        (&*self.file).write_all(line.as_bytes()).map_err(|error| Lost(error.to_string()))
    }

    pub(crate) fn read(&self) -> io::Result<Vec<String>> {
        Ok(std::fs::read_to_string(&self.path)?.lines().map(str::to_owned).collect())
    }
}

impl Stations for Ledger {
    async fn visit(&self, number: u32) -> Result<u32, Lost> {
        let task = TaskContext::current().ok_or_else(|| Lost("no task".to_owned()))?;
        self.note(&task).map(|()| number)
    }

    async fn count(&self, numbers: Vec<u32>) -> Vec<Result<u32, Lost>> {
        let tasks = TaskContext::batch();
        numbers.into_iter().zip(&tasks).map(|(number, task)| self.note(task).map(|()| number)).collect()
    }
}

/// A task, a call of a batch, a child, a timer, and an update that it waits for.
#[derive(Debug, Default)]
pub(crate) struct Journey {
    paid: u32,
}

#[partitura::workflow]
impl Journey {
    #[run]
    async fn run(cx: Cx<Self>, number: u32) -> Result<u32, Lost> {
        let stations = cx.service::<StationsStub>();
        let visited = stations.visit(number).await?;
        cx.sleep(millis(300)).await?;
        let counted = stations.count(number).await?;
        let returned = cx.child::<Leg>(format!("{}-leg", cx.id())).run(number).await;
        let returned = returned.map_err(|error| Lost(error.to_string()))?;
        cx.until(|journey: &Journey| journey.paid > 0).await?;
        Ok(visited + counted + returned + cx.state(|journey| journey.paid))
    }

    /// Says how often it was paid for.
    #[update]
    fn pay(&mut self) -> u32 {
        self.paid += 1;
        self.paid
    }
}

/// A timer, and a task.
#[derive(Debug, Default)]
pub(crate) struct Leg;

#[partitura::workflow]
impl Leg {
    #[run]
    async fn run(cx: Cx<Self>, number: u32) -> Result<u32, Lost> {
        cx.sleep(millis(100)).await?;
        Ok(cx.service::<StationsStub>().visit(number).await?)
    }
}

/// A task, at each time of a schedule.
#[derive(Debug, Default)]
pub(crate) struct Departure;

#[partitura::workflow]
impl Departure {
    #[run]
    async fn run(cx: Cx<Self>, number: u32) -> Result<u32, Lost> {
        Ok(cx.service::<StationsStub>().visit(number).await?)
    }
}

/// The result of a journey that was paid for once.
pub(crate) fn expected(number: u32) -> u32 {
    3 * number + 1
}

pub(crate) fn register(worker: Worker, ledger: Ledger) -> Worker {
    let worker = worker.service(StationsService(ledger)).workflow::<Journey>().workflow::<Leg>();
    worker.workflow::<Departure>().schedules()
}
