//! Inline steps: they run in the memory of one process, and a message of their instance sees to it that they do.
//!
//! A step leaves with its process. So the turn that schedules one also sends its own instance a [`StepOverdue`]
//! (delayed), which whoever owns the instance then answers: the step has a result, or it runs here, or it is run again.
//!
//! [`StepOverdue`]: crate::wire::Command::StepOverdue

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a step may go without a result before somebody looks whether it still runs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Run and number of the steps that run in this process now.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<HashSet<(String, u32)>>);

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashSet<(String, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false`: it runs already. An instance that is replayed meanwhile does not run it twice.
    pub(crate) fn begin(&self, step: (String, u32)) -> bool {
        self.lock().insert(step)
    }

    pub(crate) fn end(&self, step: &(String, u32)) {
        self.lock().remove(step);
    }

    pub(crate) fn contains(&self, run: &str, seq: u32) -> bool {
        self.lock().contains(&(run.to_owned(), seq))
    }
}
