//! Those who wait for the answers of updates whose handlers have begun.
//!
//! In the memory of the instance's owner only: a caller asks again every now and then, so that a new owner learns of
//! it.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use partitura_broker::Partition;

use crate::wire::names::InstanceKey;
use crate::wire::{Outcome, ReplyBody, ReplyTo};
use crate::workflow::by_instance::{ByInstance, at_most};

/// Instances that are waited for, and callers of one. Those that waited longest are forgotten beyond that.
const INSTANCES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(100_000 - 1);
const CALLERS: usize = 1_000;

/// A caller that waits for an update of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UpdateWaiter {
    pub(crate) run: String,
    /// The id of the update.
    pub(crate) id: String,
    pub(crate) to: ReplyTo,
}

/// The result of a turn for those who wait.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// Updates by their ids, and what their handlers returned.
    pub(crate) updates: Vec<(String, Outcome)>,
    /// Runs that have ended, and with them the handlers that were open.
    pub(crate) ended: Vec<String>,
}

/// The callers of each instance.
#[derive(Debug)]
pub(crate) struct UpdateWaiters(Mutex<ByInstance<(Partition, Vec<UpdateWaiter>)>>);

impl Default for UpdateWaiters {
    fn default() -> Self {
        Self(Mutex::new(at_most(INSTANCES)))
    }
}

impl UpdateWaiters {
    fn lock(&self) -> MutexGuard<'_, ByInstance<(Partition, Vec<UpdateWaiter>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of callers, and gives what is to be sent to those that are answered. They are forgotten.
    pub(crate) fn add_and_answer(
        &self,
        (key, partition): (&InstanceKey, Partition),
        new: Vec<UpdateWaiter>,
        Answered { updates, ended }: Answered,
    ) -> Vec<(ReplyTo, ReplyBody)> {
        let mut known = self.lock();
        let mut waiting = known.pop(key).map(|(_, waiting)| waiting).unwrap_or_default();
        for waiter in new {
            if !waiting.contains(&waiter) {
                waiting.push(waiter);
            }
        }
        let answer = |waiter: &UpdateWaiter| match updates.iter().find(|(id, _)| *id == waiter.id) {
            Some((_, outcome)) => Some(ReplyBody::Updated(outcome.clone())),
            None => ended.contains(&waiter.run).then(|| ReplyBody::Interrupted { run: waiter.run.clone() }),
        };
        let (mut replies, mut open) = (Vec::new(), Vec::new());
        for waiter in waiting {
            match answer(&waiter) {
                Some(body) => replies.push((waiter.to, body)),
                None => open.push(waiter),
            }
        }
        open.drain(..open.len().saturating_sub(CALLERS));
        if !open.is_empty() {
            known.push(key.clone(), (partition, open));
        }
        replies
    }

    /// These partitions are another's now.
    pub(crate) fn forget(&self, partitions: &[Partition]) {
        let mut known = self.lock();
        let of = |(key, (partition, _)): (&InstanceKey, &(Partition, Vec<UpdateWaiter>))| {
            partitions.contains(partition).then(|| key.clone())
        };
        let gone: Vec<InstanceKey> = known.iter().filter_map(of).collect();
        for key in gone {
            known.pop(&key);
        }
    }
}
