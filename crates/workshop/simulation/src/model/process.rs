use std::sync::Arc;

use tokio::sync::Notify;

use crate::plan::Generation;

/// A process, as the world sees it.
#[derive(Debug)]
pub(crate) struct ProcessState {
    pub(crate) name: String,
    pub(crate) dead: bool,
    /// Whether it can have incidents. The process of most clients has none.
    pub(crate) mortal: bool,
    /// The lead of its clock over the wall clock, in milliseconds.
    pub(crate) clock: i64,
    /// The generation of its code, if it is a worker.
    pub(crate) generation: Option<Generation>,
    pub(crate) paused_until: u64,
    /// The time at which it was asked to shut down.
    pub(crate) leaves_since: Option<u64>,
    /// Whether its effects count.
    pub(crate) counts: bool,
    /// The number of effects from now after which it dies, before or after the last one has happened.
    pub(crate) crash: Option<(u64, bool)>,
    pub(crate) died: Arc<Notify>,
    pub(crate) leaves: Arc<Notify>,
    pub(crate) resumed: Arc<Notify>,
}

impl ProcessState {
    pub(crate) fn is_mortal(&self) -> bool {
        self.mortal && !self.dead
    }

    pub(crate) fn ask_to_leave(&mut self, now: u64) {
        self.leaves_since.get_or_insert(now);
        self.leaves.notify_one();
    }

    /// Lets it not crash any more, and corrects its clock.
    pub(crate) fn calm_down(&mut self) {
        self.crash = None;
        self.clock = 0;
    }

    /// Whether its code is to be replaced.
    pub(crate) fn is_outdated(&self) -> bool {
        self.generation.is_some_and(|generation| generation != Generation::Fixed)
    }
}
