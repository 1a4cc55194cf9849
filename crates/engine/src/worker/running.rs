use futures::future::{select_all, try_join_all};
use partitura_broker::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::health::Standing;

/// A worker at work. Dropping it stops the work as a crash would; [`stop`](Self::stop) finishes what runs.
#[derive(Debug)]
pub struct RunningWorker {
    pub(super) shutdown: Option<oneshot::Sender<()>>,
    pub(super) tasks: Vec<JoinHandle<Result<()>>>,
    pub(super) standing: Standing,
}

impl RunningWorker {
    /// Takes up nothing new, finishes what runs, settles, and leaves.
    ///
    /// # Errors
    /// The error that kept it from leaving cleanly. Nothing is lost then either; some of it is done again.
    ///
    /// # Cancel safety
    /// Dropped, the rest is as after a crash.
    pub async fn stop(mut self) -> Result<()> {
        self.standing.stops();
        drop(self.shutdown.take());
        let tasks = std::mem::take(&mut self.tasks);
        try_join_all(tasks.into_iter().map(flat)).await.map(drop)
    }

    /// Waits until the worker ends by itself, which it does only when it cannot go on.
    ///
    /// # Errors
    /// Why it cannot.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ended(&mut self) -> Result<()> {
        if self.tasks.is_empty() {
            return std::future::pending().await;
        }
        let (ended, index, _) = select_all(self.tasks.iter_mut()).await;
        drop(self.tasks.swap_remove(index));
        ended.unwrap_or_else(|panic| Err(crashed(&panic)))
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn flat(task: JoinHandle<Result<()>>) -> Result<()> {
    task.await.unwrap_or_else(|panic| Err(crashed(&panic)))
}

fn crashed(error: &tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Closed, "run", format!("a task of the worker ended: {error}"))
}
