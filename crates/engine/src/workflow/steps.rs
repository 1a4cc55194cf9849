//! Inline steps: they run in the memory of one process, and a message of their instance sees to it that they do.
//!
//! A step leaves with its process. So the turn that schedules one also sends its own instance a [`StepOverdue`]
//! (delayed), which the owner of the instance then answers: the step has a result, or it runs somewhere, or it is run
//! again. A step runs on where it began, also when the instance has another owner by then, and tells the owner so.
//!
//! [`StepOverdue`]: crate::wire::Command::StepOverdue

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long a step may go without a result or a sign of life before it is run again.
pub(crate) const OVERDUE_AFTER: Duration = Duration::from_secs(30);
/// How often a step that runs for long gives a sign of life.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// Of how many steps the last sign of life is known at most.
const SIGNS: usize = 100_000;

/// Run and number of a step.
pub(crate) type StepId = (String, u32);

/// The steps of a workflow that run in this process now, and signs of life of others.
#[derive(Debug)]
pub(crate) struct Steps {
    running: Mutex<BTreeMap<StepId, Option<AbortHandle>>>,
    signs: Mutex<Signs>,
    /// Bounds those that run at a time.
    pub(crate) permits: Arc<Semaphore>,
    ended: Notify,
}

impl Steps {
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            running: Mutex::default(),
            signs: Mutex::new(Signs::new(SIGNS)),
            permits: Arc::new(Semaphore::new(at_once)),
            ended: Notify::new(),
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<StepId, Option<AbortHandle>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a step, unless it runs already: an instance that is replayed meanwhile does not run it twice.
    pub(crate) fn begin<F>(&self, step: StepId, run: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Entry::Vacant(vacant) = self.running().entry(step.clone()) {
            vacant.insert(None);
        } else {
            return;
        }
        let task = tokio::spawn(run());
        // It may have ended by now.
        if let Some(handle) = self.running().get_mut(&step) {
            *handle = Some(task.abort_handle());
        }
    }

    /// The step has ended here; its result is on its way.
    pub(crate) fn end(&self, step: StepId) {
        self.is_alive(step.clone());
        self.running().remove(&step);
        self.ended.notify_waiters();
    }

    /// The step runs somewhere, or its result is on its way.
    pub(crate) fn is_alive(&self, step: StepId) {
        self.signs().add(step);
    }

    /// The step has its result.
    pub(crate) fn is_done(&self, step: &StepId) {
        self.signs().known.pop(step);
    }

    /// Drops the code of a step that nobody awaits any more, if it runs here; of all steps of the run, without a
    /// number.
    pub(crate) fn drop_those(&self, run: &str, seq: Option<u32>) {
        let (first, last) = seq.map_or((0, u32::MAX), |seq| (seq, seq));
        let mut running = self.running();
        let of_run = running.range((run.to_owned(), first)..=(run.to_owned(), last));
        let dropped: Vec<StepId> = of_run.map(|(step, _)| step.clone()).collect();
        if dropped.is_empty() {
            return;
        }
        let tasks = dropped.iter().filter_map(|step| running.remove(step).flatten()).collect::<Vec<_>>();
        drop(running);
        tasks.into_iter().for_each(|task| task.abort());
        self.ended.notify_waiters();
    }

    /// How long to wait before the step counts as lost with its process; zero: it does. Signs of life are heard since
    /// the partition is ours.
    pub(crate) fn wait_for(&self, step: &StepId, ours_since: Option<Instant>) -> Duration {
        if self.running().contains_key(step) {
            return OVERDUE_AFTER;
        }
        let last = self.signs().last(step).max(ours_since);
        last.map_or(Duration::ZERO, |last| OVERDUE_AFTER.saturating_sub(last.elapsed()))
    }

    /// Waits until no step runs here.
    pub(crate) async fn drained(&self) {
        loop {
            let ended = self.ended.notified();
            if self.running().is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// Drops all that run here, as a crash would.
    pub(crate) fn abort(&self) {
        std::mem::take(&mut *self.running()).into_values().flatten().for_each(|task| task.abort());
    }
}

/// The last signs of life. Those that are too old to count are forgotten; of more than are kept, the oldest is.
#[derive(Debug)]
struct Signs {
    most: usize,
    known: LruCache<StepId, Instant>,
    /// The latest sign that was forgotten for want of room: any step of which nothing is known may have given it.
    forgotten: Option<Instant>,
}

impl Signs {
    fn new(most: usize) -> Self {
        Self { most, known: LruCache::unbounded(), forgotten: None }
    }

    fn add(&mut self, step: StepId) {
        self.known.put(step, Instant::now());
        while let Some(sign) = self.known.peek_lru().map(|(_, sign)| *sign) {
            let is_old = sign.elapsed() >= OVERDUE_AFTER;
            if !is_old && self.known.len() <= self.most {
                return;
            }
            self.known.pop_lru();
            if !is_old {
                self.forgotten = self.forgotten.max(Some(sign));
            }
        }
    }

    fn last(&self, step: &StepId) -> Option<Instant> {
        self.known.peek(step).copied().or(self.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_whose_sign_of_life_was_forgotten_is_not_lost() {
        let steps = Steps::new(1);
        *steps.signs() = Signs::new(10);
        let step = |number: u32| ("run".to_owned(), number);
        (0..11).for_each(|number| steps.is_alive(step(number)));
        assert_eq!(steps.wait_for(&step(0), None), OVERDUE_AFTER);
        assert_eq!(steps.wait_for(&step(10), None), OVERDUE_AFTER);
        tokio::time::advance(OVERDUE_AFTER).await;
        assert_eq!(steps.wait_for(&step(0), None), Duration::ZERO);
        assert_eq!(steps.wait_for(&step(10), None), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn signs_are_kept_for_as_long_as_they_count() {
        let steps = Steps::new(1);
        let step = |number: u32| ("run".to_owned(), number);
        (0..100).for_each(|number| steps.is_alive(step(number)));
        steps.is_done(&step(7));
        assert_eq!(steps.signs().known.len(), 99);
        tokio::time::advance(OVERDUE_AFTER).await;
        steps.is_alive(step(100));
        let signs = steps.signs();
        assert_eq!((signs.known.len(), signs.forgotten), (1, None));
    }
}
