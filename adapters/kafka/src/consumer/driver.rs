//! The thread that drives the consumers of a connection.
//!
//! A round of a consumer takes microseconds, except one that takes over partitions, which waits for brokers. Such a
//! round, and leaving the group, have a thread of their own, so that no consumer waits for another.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::driving_thread::DrivingThread;
use super::worker::Worker;

/// The longest pause, if there are no consumers for a moment.
const PAUSE: Duration = Duration::from_millis(50);

/// Drives the consumers of a connection on one thread, which ends with the last of them.
#[derive(Default)]
pub(crate) struct Driver {
    thread: Arc<DrivingThread>,
    /// The consumers that the thread has not taken over yet. Locked while the thread is set.
    arrived: Mutex<Vec<Worker>>,
}

impl Driver {
    /// Begins to drive a consumer.
    pub(super) fn start(self: &Arc<Self>, worker: Worker) -> std::io::Result<()> {
        let driver = self.clone();
        spawn(move || driver.adopt(worker))
    }

    pub(super) fn thread(&self) -> &Arc<DrivingThread> {
        &self.thread
    }

    /// Gives a consumer to the thread that drives the others. If there is none, the calling thread becomes it.
    fn adopt(self: Arc<Self>, worker: Worker) {
        let mut arrived = self.arrived();
        arrived.push(worker);
        if !self.thread.wake() {
            self.thread.set(Some(thread::current()));
            drop(arrived);
            self.run();
        }
    }

    fn run(self: Arc<Self>) {
        let mut workers = Vec::new();
        loop {
            let mut arrived = self.arrived();
            workers.append(&mut arrived);
            if workers.is_empty() {
                return self.thread.set(None);
            }
            drop(arrived);
            let mut at = 0;
            while let Some(worker) = workers.get_mut(at) {
                if !worker.is_due() || guarded(worker, Worker::poll_and_work) {
                    at += 1;
                } else {
                    self.clone().send_away(workers.swap_remove(at));
                }
            }
            let next = workers.iter().map(Worker::next_round).min();
            thread::park_timeout(next.map_or(PAUSE, |next| next.saturating_duration_since(Instant::now())));
        }
    }

    /// Gives a consumer a thread of its own for a round that takes time.
    fn send_away(self: Arc<Self>, worker: Worker) {
        let worker = Arc::new(Mutex::new(Some(worker)));
        let work = move || {
            let Some(mut worker) = worker.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
            if worker.is_stopped() {
                return worker.leave();
            }
            guarded(&mut worker, |worker| {
                worker.work();
                true
            });
            self.adopt(worker);
        };
        // Without another thread the other consumers wait.
        if spawn(work.clone()).is_err() {
            work();
        }
    }

    fn arrived(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("thread", &self.thread).finish_non_exhaustive()
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name("kafka-consumer".into()).spawn(run).map(drop)
}

/// Ends a consumer that panics, and no other. Returns whether the consumer may stay on the thread of the others.
fn guarded(worker: &mut Worker, work: impl FnOnce(&mut Worker) -> bool) -> bool {
    catch_unwind(AssertUnwindSafe(|| work(worker))).unwrap_or_else(|_| {
        worker.panicked();
        false
    })
}
