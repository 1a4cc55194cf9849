//! Moves the content of the log into the file, without stopping the writer for long.
//!
//! SQLite would do all of it within the commit that makes the log too long, and that commit would take a hundred times
//! as long as others. Here another thread does most of it beside the writer. The writer itself moves the pages that
//! were written meanwhile, between two batches. They are few, and the log can become empty and begin again only while
//! it does not write.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use partitura_broker::{Error, ErrorKind, Result, telemetry};

use crate::lock::lock;
use crate::storage::{Checkpoints, Storage};

/// The length of the log, in pages of 4 KiB, from which a checkpoint is made. It is long enough that pages which change
/// often are copied once for many changes, and short enough that the log is read quickly after a crash.
const PAGES: u32 = 16_000;

#[derive(Debug)]
pub(crate) struct Checkpointer {
    phase: Arc<Phase>,
    thread: Option<JoinHandle<()>>,
    /// The length of the log when a checkpoint last left some of it.
    left_at: u32,
}

#[derive(Debug, Default)]
struct Phase {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Now {
    #[default]
    Idle,
    /// The other thread is to make a checkpoint.
    Requested,
    /// The writer is to move the rest.
    Rest,
    Stopped,
}

impl Checkpointer {
    /// Starts the other thread.
    pub(crate) fn start(file: &Path) -> Result<Self> {
        let phase = Arc::new(Phase::default());
        let connection = Checkpoints::open(file)?;
        let theirs = phase.clone();
        let work = move || {
            while theirs.wait() {
                report(connection.checkpoint());
                theirs.change(Now::Requested, Now::Rest);
            }
        };
        let thread = std::thread::Builder::new()
            .name("partitura-checkpoint".into())
            .spawn(work)
            .map_err(|error| Error::new(ErrorKind::Storage, "open", "a thread could not be started").because(error))?;
        Ok(Self { phase, thread: Some(thread), left_at: 0 })
    }

    /// Does its part of a checkpoint, between two batches.
    pub(crate) fn turn(&mut self, storage: &Storage) {
        let pages = storage.log_pages();
        if self.phase.change(Now::Rest, Now::Idle) {
            let left = report(storage.checkpoint());
            self.left_at = if left == 0 { 0 } else { pages };
        } else if pages >= self.left_at.saturating_add(PAGES) {
            self.phase.change(Now::Idle, Now::Requested);
        }
    }
}

/// A long read can keep a part of the log in use. Then the log goes on growing, and everything works as before.
fn report(left: Result<u32>) -> u32 {
    left.unwrap_or_else(|error| {
        tracing::warn!(target: telemetry::TARGET, %error, "a checkpoint failed; the log goes on growing");
        u32::MAX
    })
}

impl Phase {
    /// Whether there is something to do for the other thread.
    fn wait(&self) -> bool {
        let mut now = lock(&self.now);
        loop {
            match *now {
                Now::Requested => return true,
                Now::Stopped => return false,
                Now::Idle | Now::Rest => now = self.changed.wait(now).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn change(&self, from: Now, to: Now) -> bool {
        let mut now = lock(&self.now);
        let changes = *now == from;
        if changes {
            *now = to;
            self.changed.notify_one();
        }
        changes
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        *lock(&self.phase.now) = Now::Stopped;
        self.phase.changed.notify_one();
        // The file is closed last by the writer, which then empties the log.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
