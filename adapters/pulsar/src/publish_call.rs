//! A call of `publish` that is under way: its caller, and the outcome of each message.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use partitura_broker::{Error, ErrorKind, Receipt, Result};
use tokio::sync::{Semaphore, oneshot};

use crate::error;
use crate::names::FullName;

/// One call of `publish`.
#[derive(Debug)]
pub(crate) struct PublishCall {
    state: Mutex<State>,
    /// A permit for each unconfirmed message.
    window: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    results: Vec<Option<Result<Receipt>>>,
    left: usize,
    done: Option<oneshot::Sender<()>>,
    /// The topics to which a message of it failed. The later ones must not overtake it.
    broken: Vec<FullName>,
    /// The caller stopped waiting.
    abandoned: bool,
}

/// The outcome that one message of a call is waiting for. It holds a permit of the window, and gives it back.
#[derive(Debug)]
pub(crate) struct Promise {
    call: Arc<PublishCall>,
    index: usize,
    resolved: bool,
}

impl PublishCall {
    pub(crate) fn new(messages: usize, window: Arc<Semaphore>) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (done, waiting) = oneshot::channel();
        let results = (0..messages).map(|_| None).collect();
        let state = State { results, left: messages, done: Some(done), broken: Vec::new(), abandoned: false };
        (Arc::new(Self { state: Mutex::new(state), window }), waiting)
    }

    /// The promise for message number `index`. Its permit has been taken, and forgotten.
    pub(crate) fn promise(self: &Arc<Self>, index: usize) -> Promise {
        Promise { call: self.clone(), index, resolved: false }
    }

    /// Stops waiting. Messages without an outcome get the error `otherwise`; those that were not sent yet are not sent.
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

impl Promise {
    /// Whether to send the message: its caller waits, and no message before it failed to reach `to`.
    pub(crate) fn is_awaited(&self, to: &FullName) -> bool {
        let state = self.call.state();
        !state.abandoned && !state.broken.contains(to)
    }

    pub(crate) fn stored(self, receipt: Receipt) {
        self.resolve(Ok(receipt));
    }

    /// The message is refused for good, which does not concern the others.
    pub(crate) fn refused(self, error: Error) {
        self.resolve(Err(error));
    }

    /// The message failed to reach `to`: so do those after it.
    pub(crate) fn failed(self, to: &FullName, error: Error) {
        let mut state = self.call.state();
        if !state.broken.contains(to) {
            state.broken.push(to.clone());
        }
        drop(state);
        self.resolve(Err(error));
    }

    fn resolve(mut self, result: Result<Receipt>) {
        self.resolved = true;
        self.call.outcome(self.index, result);
    }
}

impl PublishCall {
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

impl Drop for Promise {
    /// The task that was to resolve it is gone.
    fn drop(&mut self) {
        if !self.resolved {
            self.call.outcome(self.index, Err(error::disconnected("publish")));
        }
    }
}

/// The error of a message that may have been stored.
pub(crate) fn unknown(what: &str) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "publish", format!("{what}; publish it again with the same id"))
}
