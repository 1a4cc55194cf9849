//! The batches that gather calls.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use partitura_workflow::{Payload, TaskFailure};
use tokio::sync::oneshot;

use super::context::TaskContext;

pub(super) type Answer = Result<Payload, TaskFailure>;

/// The batches of one service that gather calls.
#[derive(Debug, Default)]
pub(super) struct Batches(Mutex<Open>);

#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) batches: HashMap<Group, Batch>,
    /// How many were opened.
    pub(super) count: u64,
}

/// The calls that may be together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) method: String,
    pub(super) key: Option<String>,
    pub(super) max: usize,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) calls: Vec<Call>,
    pub(super) full: oneshot::Sender<Vec<Call>>,
}

/// A call that waits for its answer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) args: Payload,
    pub(super) context: TaskContext,
    pub(super) answer: oneshot::Sender<Answer>,
}

impl Batches {
    pub(super) fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the calls of a batch, if it still gathers them.
    pub(super) fn take(&self, group: &Group, number: u64) -> Option<Vec<Call>> {
        let mut open = self.lock();
        open.batches.get(group).filter(|batch| batch.number == number)?;
        open.batches.remove(group).map(|batch| batch.calls)
    }
}
