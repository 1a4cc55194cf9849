//! The thread that writes, and the queue in front of it.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result};
use tokio::sync::watch;

use crate::checkpoint::Checkpointer;
use crate::core::Core;
use crate::error;
use crate::file::Directory;
use crate::lock::lock;
use crate::readers::Readers;
use crate::request::Request;
use crate::writer::Writer;

/// The time for which settlements alone wait for other work that shares their sync.
const LINGER: Duration = Duration::from_millis(2);

/// Requests that wait for the writer. Bounded by the permits that they carry.
#[derive(Debug)]
pub(crate) struct WriteQueue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    settled: bool,
    /// The writer sleeps, and must be woken.
    idle: bool,
    stopped: bool,
}

impl WriteQueue {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::default(), arrived: Condvar::new(), ended: watch::Sender::new(false) }
    }

    pub(crate) fn push(&self, request: Request) -> Result<()> {
        let mut waiting = lock(&self.waiting);
        if waiting.stopped {
            return Err(error::closed("submit"));
        }
        waiting.requests.push_back(request);
        self.wake(waiting);
        Ok(())
    }

    /// Something was settled.
    pub(crate) fn nudge(&self) {
        let mut waiting = lock(&self.waiting);
        if !mem::replace(&mut waiting.settled, true) {
            self.wake(waiting);
        }
    }

    pub(crate) fn stop(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.stopped = true;
        self.wake(waiting);
    }

    fn wake(&self, mut waiting: std::sync::MutexGuard<'_, Waiting>) {
        let idle = mem::take(&mut waiting.idle);
        drop(waiting);
        if idle {
            self.arrived.notify_one();
        }
    }

    /// Waits until the writer has written everything and given the file back.
    pub(crate) async fn ended(&self) {
        // The sender is a field of self, so it exists.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// The requests that arrived while the last batch was being written; `None` at the end.
    fn next(&self) -> Option<Vec<Request>> {
        let mut waiting = lock(&self.waiting);
        let mut lingered = false;
        loop {
            if !waiting.requests.is_empty() || (waiting.settled && (lingered || waiting.stopped)) {
                waiting.settled = false;
                waiting.idle = false;
                return Some(mem::take(&mut waiting.requests).into());
            }
            if waiting.stopped {
                return None;
            }
            waiting.idle = true;
            let limit = if waiting.settled { LINGER } else { Duration::MAX };
            let woken = self.arrived.wait_timeout(waiting, limit).unwrap_or_else(std::sync::PoisonError::into_inner);
            lingered = woken.1.timed_out();
            waiting = woken.0;
        }
    }
}

/// Starts the thread. It ends, and gives the directory back, when the queue is stopped and empty.
pub(crate) fn start(
    queue: Arc<WriteQueue>,
    core: Arc<Core>,
    readers: Arc<Readers>,
    writer: Writer,
    directory: Directory,
) -> Result<()> {
    let mut checkpointer = Checkpointer::start(directory.file())?;
    let run = move || {
        // This also happens if the thread panics, so that no caller waits for ever.
        let end = End { core: &core, queue: &queue, readers: &readers };
        let mut writer = writer;
        while let Some(requests) = queue.next() {
            writer.run(requests, &core);
            checkpointer.turn(writer.storage());
        }
        drop(checkpointer);
        drop(writer);
        drop(directory);
        drop(end);
    };
    let started = std::thread::Builder::new().name("partitura-embedded".into()).spawn(run);
    started.map(drop).map_err(|error| {
        Error::new(ErrorKind::Storage, "open", "the thread that writes could not be started").because(error)
    })
}

/// Ends the broker with its writer.
struct End<'c> {
    core: &'c Core,
    queue: &'c WriteQueue,
    readers: &'c Readers,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let Self { core, queue, readers } = self;
        core.close_admission();
        queue.stop();
        core.state().close();
        readers.close();
        // Callers learn from the dropped answers that there will be none.
        let rest = mem::take(&mut lock(&queue.waiting).requests);
        drop(rest);
        queue.ended.send_replace(true);
    }
}
