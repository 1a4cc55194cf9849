//! The attempts that run in this process now: a copy of one that arrives meanwhile does not run a second time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::wire::ReplyTo;

#[derive(Debug, Default, Clone)]
pub(super) struct Running(Arc<Mutex<HashMap<String, Runs>>>);

#[derive(Debug)]
struct Runs {
    address: ReplyTo,
    reported: watch::Receiver<bool>,
}

pub(super) enum Begun {
    /// It runs here from now on, until the place is dropped.
    Here(Place),
    /// A copy of it runs here already.
    Before {
        /// Where that one listens.
        address: ReplyTo,
        /// Whether it was reported. Closed when it has ended.
        reported: watch::Receiver<bool>,
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
                let (sender, reported) = watch::channel(false);
                let attempt = vacant.key().clone();
                vacant.insert(Runs { address: address.clone(), reported });
                Begun::Here(Place { running: self.clone(), attempt, reported: sender })
            }
        }
    }
}

/// An attempt that runs in this process.
pub(super) struct Place {
    running: Running,
    attempt: String,
    reported: watch::Sender<bool>,
}

impl Place {
    /// Says whether its result is with the broker.
    pub(super) fn reported(&self, reported: bool) {
        self.reported.send_replace(reported);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.lock().remove(&self.attempt);
    }
}
