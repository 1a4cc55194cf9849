//! A batch that is being published: who waits for it, and what has become of each message.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use partitura_broker::{Error, ErrorKind, Receipt, Result};
use tokio::sync::{Semaphore, oneshot};

use crate::error;
use crate::names::FullName;

/// One call of `publish`.
#[derive(Debug)]
pub(crate) struct Job {
    state: Mutex<State>,
    /// A permit for each message that is on its way.
    window: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    results: Vec<Option<Result<Receipt>>>,
    left: usize,
    done: Option<oneshot::Sender<()>>,
    /// Where a message of it failed: what comes behind it must not overtake it.
    broken: Vec<FullName>,
    /// Nobody waits any more.
    abandoned: bool,
}

/// What is owed to one message of a job: one outcome. It has a permit of the window, and gives it back.
#[derive(Debug)]
pub(crate) struct Pledge {
    job: Arc<Job>,
    index: usize,
    kept: bool,
}

impl Job {
    pub(crate) fn new(messages: usize, window: Arc<Semaphore>) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (done, waiting) = oneshot::channel();
        let results = (0..messages).map(|_| None).collect();
        let state = State { results, left: messages, done: Some(done), broken: Vec::new(), abandoned: false };
        (Arc::new(Self { state: Mutex::new(state), window }), waiting)
    }

    /// For message number `index`. Its permit has been taken, and forgotten.
    pub(crate) fn pledge(self: &Arc<Self>, index: usize) -> Pledge {
        Pledge { job: self.clone(), index, kept: false }
    }

    /// Stops waiting: what has no outcome yet has an unknown one, and what was not sent yet is not sent.
    pub(crate) fn finish(&self, otherwise: impl Fn() -> Error) -> Vec<Result<Receipt>> {
        let mut state = self.state();
        state.abandoned = true;
        std::mem::take(&mut state.results)
            .into_iter()
            .map(|result| result.unwrap_or_else(|| Err(otherwise())))
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pledge {
    /// Whether to send it: somebody waits, and nothing before it failed on its way to `to`.
    pub(crate) fn is_wanted(&self, to: &FullName) -> bool {
        let state = self.job.state();
        !state.abandoned && !state.broken.contains(to)
    }

    pub(crate) fn stored(self, receipt: Receipt) {
        self.keep(Ok(receipt));
    }

    /// It is refused for good, which leaves the others alone.
    pub(crate) fn refused(self, error: Error) {
        self.keep(Err(error));
    }

    /// It failed on its way to `to`: so do those behind it.
    pub(crate) fn failed(self, to: &FullName, error: Error) {
        let mut state = self.job.state();
        if !state.broken.contains(to) {
            state.broken.push(to.clone());
        }
        drop(state);
        self.keep(Err(error));
    }

    fn keep(mut self, result: Result<Receipt>) {
        self.kept = true;
        self.job.outcome(self.index, result);
    }
}

impl Job {
    fn outcome(&self, index: usize, result: Result<Receipt>) {
        let mut state = self.state();
        if let Some(place) = state.results.get_mut(index) {
            *place = Some(result);
        }
        state.left -= 1;
        if state.left == 0
            && let Some(done) = state.done.take()
        {
            let _ = done.send(());
        }
        drop(state);
        self.window.add_permits(1);
    }
}

impl Drop for Pledge {
    /// Whoever was to keep it is gone.
    fn drop(&mut self) {
        if !self.kept {
            self.job.outcome(self.index, Err(error::disconnected("publish")));
        }
    }
}

/// It may have been stored.
pub(crate) fn unknown(what: &str) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "publish", format!("{what}; publish it again with the same id"))
}
