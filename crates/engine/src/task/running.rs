//! The attempts that run in this process now: a copy of one that arrives meanwhile does not run a second time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::Shared;
use tokio::sync::oneshot;

use crate::wire::ReplyTo;

#[derive(Debug, Default, Clone)]
pub(super) struct Running(Arc<Mutex<HashMap<String, Runs>>>);

#[derive(Debug)]
struct Runs {
    address: ReplyTo,
    reported: Reported,
}

/// Resolves when an attempt has ended: whether its result is with the broker. Those who wait go on in the order in
/// which they began to.
type Reported = Shared<oneshot::Receiver<bool>>;

pub(super) enum Begun {
    /// It runs here from now on, until the place is dropped.
    Here(Place),
    /// A copy of it runs here already.
    Before {
        /// Where that one listens.
        address: ReplyTo,
        reported: Reported,
    },
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Runs>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, attempt: String, address: &ReplyTo) -> Begun {
        match self.lock().entry(attempt) {
            Entry::Occupied(runs) => {
                let Runs { address, reported } = runs.get();
                Begun::Before { address: address.clone(), reported: reported.clone() }
            }
            Entry::Vacant(vacant) => {
                let (sender, reported) = oneshot::channel();
                let attempt = vacant.key().clone();
                vacant.insert(Runs { address: address.clone(), reported: reported.shared() });
                Begun::Here(Place { running: self.clone(), attempt, reported: Some(sender) })
            }
        }
    }
}

/// An attempt that runs in this process.
pub(super) struct Place {
    running: Running,
    attempt: String,
    reported: Option<oneshot::Sender<bool>>,
}

impl Place {
    /// The attempt has ended. `reported`: its result is with the broker.
    pub(super) fn end(mut self, reported: bool) {
        let sender = self.reported.take();
        self.running.lock().remove(&self.attempt);
        // Nobody waits for it, as a rule.
        let _ = sender.map(|sender| sender.send(reported));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Once it has ended, the place may be another's.
        if self.reported.is_some() {
            self.running.lock().remove(&self.attempt);
        }
    }
}
