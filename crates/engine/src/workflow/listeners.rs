//! The tasks that run and listen for word that they are no longer wanted.
//!
//! In the memory of the instance's owner only: a task says every now and then where it listens, so that a new owner
//! learns it, and asks by the same message whether it missed anything.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use partitura_broker::Partition;

use crate::wire::names::InstanceKey;
use crate::wire::{ReplyBody, ReplyTo};
use crate::workflow::by_instance::{ByInstance, at_most};

/// Instances whose tasks are known, and tasks of all of them. Those not heard of for longest are forgotten beyond that.
const INSTANCES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(100_000 - 1);
const TASKS: usize = 200_000;

/// Where the tasks of each instance listen.
#[derive(Debug)]
pub(crate) struct Listeners(Mutex<Known>);

#[derive(Debug)]
struct Known {
    instances: ByInstance<Listening>,
    tasks: usize,
}

#[derive(Debug)]
struct Listening {
    partition: Partition,
    run: String,
    tasks: BTreeMap<u32, ReplyTo>,
}

/// A task, by the run and the number of its call, that listens at an address.
pub(crate) type Listener = (String, u32, ReplyTo);

/// A task, by the run and the number of its call, that is no longer wanted.
pub(crate) type CancelledTask = (String, u32);

impl Default for Listeners {
    fn default() -> Self {
        Self(Mutex::new(Known { instances: at_most(INSTANCES), tasks: 0 }))
    }
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of tasks that listen.
    pub(crate) fn add(&self, key: &InstanceKey, partition: Partition, listeners: Vec<Listener>) {
        if listeners.is_empty() {
            return;
        }
        let mut known = self.lock();
        for (run, seq, to) in listeners {
            known.add(key, partition, run, seq, to);
        }
        while known.tasks > TASKS && known.instances.len() > 1 {
            known.forget_oldest();
        }
    }

    /// Takes the messages to tasks that are no longer wanted. They are forgotten.
    pub(crate) fn take(&self, key: &InstanceKey, cancelled_tasks: Vec<CancelledTask>) -> Vec<(ReplyTo, ReplyBody)> {
        if cancelled_tasks.is_empty() {
            return Vec::new();
        }
        let mut known = self.lock();
        let mut told = Vec::new();
        for (run, seq) in cancelled_tasks {
            let Some(listening) = known.instances.peek_mut(key).filter(|listening| listening.run == run) else {
                continue;
            };
            told.extend(listening.tasks.remove(&seq));
            if listening.tasks.is_empty() {
                known.instances.pop(key);
            }
        }
        known.tasks = known.tasks.saturating_sub(told.len());
        told.into_iter().map(|to| (to, cancelled())).collect()
    }

    /// These partitions are another's now.
    pub(crate) fn forget(&self, partitions: &[Partition]) {
        let mut known = self.lock();
        let of = |(key, listening): (&InstanceKey, &Listening)| {
            partitions.contains(&listening.partition).then(|| key.clone())
        };
        let gone: Vec<InstanceKey> = known.instances.iter().filter_map(of).collect();
        for key in gone {
            let tasks = known.instances.pop(&key).map_or(0, |listening| listening.tasks.len());
            known.tasks = known.tasks.saturating_sub(tasks);
        }
    }
}

/// The message to a task that is no longer wanted.
pub(crate) fn cancelled() -> ReplyBody {
    ReplyBody::Heartbeat { wanted: false, details: None, attempt: None }
}

impl Known {
    fn add(&mut self, key: &InstanceKey, partition: Partition, run: String, seq: u32, to: ReplyTo) {
        // The tasks of an earlier run were told at its end.
        let earlier = self.instances.peek(key).is_some_and(|listening| listening.run != run);
        if earlier && let Some(old) = self.instances.pop(key) {
            self.tasks = self.tasks.saturating_sub(old.tasks.len());
        }
        if self.instances.len() == INSTANCES.get() && !self.instances.contains(key) {
            self.forget_oldest();
        }
        let none = || Listening { partition, run, tasks: BTreeMap::new() };
        let listening = self.instances.get_or_insert_mut(key.clone(), none);
        listening.partition = partition;
        self.tasks += usize::from(listening.tasks.insert(seq, to).is_none());
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.instances.pop_lru() {
            self.tasks = self.tasks.saturating_sub(oldest.tasks.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use partitura_broker::InboxAddress;

    use super::*;

    fn at(request: u64) -> ReplyTo {
        ReplyTo { inbox: InboxAddress::new("inbox"), request }
    }

    #[test]
    fn a_task_is_told_once_and_only_for_its_own_run() {
        let (listeners, key) = (Listeners::default(), InstanceKey::new("W", "1"));
        let listen = |run: &str, seq, request| {
            listeners.add(&key, Partition(0), vec![(run.to_owned(), seq, at(request))]);
        };
        let told = |run: &str, seq| -> Vec<u64> {
            listeners.take(&key, vec![(run.to_owned(), seq)]).iter().map(|(to, _)| to.request).collect()
        };
        const NONE: [u64; 0] = [];
        for seq in 1..=3 {
            listen("a", seq, seq.into());
        }
        assert_eq!(told("b", 2), NONE);
        assert_eq!(told("a", 2), vec![2]);
        assert_eq!(told("a", 2), NONE);
        assert_eq!((told("a", 1), told("a", 3)), (vec![1], vec![3]));
        listen("a", 1, 1);
        listen("b", 1, 4);
        assert_eq!(told("a", 1), NONE);
        listeners.forget(&[Partition(0)]);
        assert_eq!(told("b", 1), NONE);
        assert_eq!(listeners.lock().tasks, 0);
    }
}
