//! Whether the workers of a connection can take work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// How the workers of a connection stand: how many of them are starting, running and so on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// They have not joined all their subscriptions yet.
    pub starting: usize,
    /// They take work.
    pub running: usize,
    /// They finish what runs, and take nothing new.
    pub stopping: usize,
    /// They, or a part of them, have ended by themselves, and take no work: the process is to be started anew.
    pub failed: usize,
}

impl Health {
    /// Whether no worker has ended by itself.
    pub fn is_alive(&self) -> bool {
        self.failed == 0
    }

    /// Whether all workers take work. A process without workers is ready.
    pub fn is_ready(&self) -> bool {
        self.is_alive() && self.starting == 0 && self.stopping == 0
    }
}

/// The workers of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workers(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    next: u64,
    workers: BTreeMap<u64, Worker>,
}

#[derive(Debug)]
enum Worker {
    Starting,
    Running(Vec<AbortHandle>),
    Stopping,
}

/// A worker, until this is dropped.
#[derive(Debug)]
pub(crate) struct Standing {
    workers: Workers,
    number: u64,
}

impl Workers {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker starts.
    pub(crate) fn start(&self) -> Standing {
        let mut all = self.lock();
        let number = all.next;
        all.next += 1;
        all.workers.insert(number, Worker::Starting);
        Standing { workers: self.clone(), number }
    }

    pub(crate) fn health(&self) -> Health {
        let mut health = Health::default();
        for worker in self.lock().workers.values() {
            *match worker {
                Worker::Starting => &mut health.starting,
                Worker::Stopping => &mut health.stopping,
                // A part ends before it is told to only if it cannot go on.
                Worker::Running(parts) if parts.iter().any(AbortHandle::is_finished) => &mut health.failed,
                Worker::Running(_) => &mut health.running,
            } += 1;
        }
        health
    }
}

impl Standing {
    /// It runs, in these tasks.
    pub(crate) fn runs(&self, parts: Vec<AbortHandle>) {
        self.workers.lock().workers.insert(self.number, Worker::Running(parts));
    }

    /// It was told to stop.
    pub(crate) fn stops(&self) {
        self.workers.lock().workers.insert(self.number, Worker::Stopping);
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.workers.lock().workers.remove(&self.number);
    }
}
