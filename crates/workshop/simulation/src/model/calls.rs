//! The calls of tasks and steps, and the faults that explain more than one of each.

use std::collections::{BTreeMap, BTreeSet};

/// The length of a run's name, which is a UUID.
pub(crate) const RUN: usize = 36;
/// A turn of a worker that was cut off may be committed this much later, in milliseconds.
const LATE: u64 = 20_000;

/// The calls, and the faults that explain them.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// By idempotency key.
    pub(crate) tasks: BTreeMap<String, Task>,
    /// The number of times that a step was run, by run and number.
    pub(crate) steps: BTreeMap<String, u32>,
    /// The number of deliveries of a message, by its id.
    pub(crate) delivered: BTreeMap<String, u32>,
    /// The number of further deliveries of a message that are explained, by its id.
    pub(crate) copies: BTreeMap<String, u32>,
    /// Requests that failed or have an unknown outcome, by run.
    pub(crate) troubles: BTreeMap<String, u32>,
    /// Requests that failed, for any run.
    pub(crate) other_troubles: u32,
    /// The times at which workers were lost, were cut off, were told of that, or were late.
    pub(crate) upheavals: Vec<u64>,
    /// The times at which tasks were scheduled, by run and number; and the first step, by run.
    pub(crate) asked: BTreeMap<String, u64>,
    /// The times at which runs ended.
    pub(crate) ended: BTreeMap<String, u64>,
}

/// The calls of one task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) what: String,
    /// The number of calls of each attempt.
    pub(crate) attempts: BTreeMap<u32, u32>,
    /// The last attempt, if the call names it.
    pub(crate) last: Option<u32>,
}

impl Calls {
    /// Notes requests for these runs that failed, or whose outcome is unknown.
    pub(crate) fn trouble(&mut self, runs: BTreeSet<String>) {
        if runs.is_empty() {
            self.other_troubles += 1;
        }
        for run in runs {
            *self.troubles.entry(run).or_default() += 1;
        }
    }

    /// Notes that a run goes on as the next one: what that sends waits behind messages of the run that were not
    /// confirmed, and comes again with them if the worker leaves.
    pub(crate) fn concern_next(&mut self, run: &str, next: String) {
        let troubles = self.troubles.get(run).copied().unwrap_or_default();
        *self.troubles.entry(next).or_default() += troubles;
    }

    pub(crate) fn copies(&self, message: &str) -> u32 {
        self.copies.get(message).copied().unwrap_or_default()
    }

    /// Counts the faults that concern the whole run of `key`.
    pub(crate) fn of_all(&self, key: &str) -> u32 {
        let run = key.get(..RUN).unwrap_or(key);
        let troubles = self.troubles.get(run).copied().unwrap_or_default() + self.other_troubles;
        let since = self.asked.get(key).copied().unwrap_or_default().saturating_sub(LATE);
        troubles + self.upheavals.iter().filter(|at| **at >= since).count() as u32
    }

    /// The largest explained number of calls of an attempt.
    pub(crate) fn explained(&self, key: &str, attempt: u32) -> u32 {
        let task = self.tasks.get(key);
        let before = attempt.checked_sub(1).and_then(|before| task?.attempts.get(&before).copied());
        // Each call of the previous attempt schedules this one.
        let asked = before.unwrap_or(1);
        let message = format!("{key}.{attempt}");
        let explained = asked + self.copies(&message) + self.of_all(key);
        // The result of a task is kept until it is reported: only another delivery calls the task again.
        explained.min(self.delivered.get(&message).copied().unwrap_or_default())
    }
}
