//! Counts the calls of tasks and steps: one each, unless a fault explains another call.
//!
//! A call is checked when it is made. Faults that may explain it came before. Each fault is counted when it happens,
//! for the messages or runs that it concerns:
//!
//! * a redelivery, and a second copy of a message: for that message;
//! * a request that failed, or whose outcome is unknown: for the run of its messages or rows;
//! * a worker that is lost, cut off, or late to give a partition back: for everything that was asked for before.
//!
//! Without faults nothing explains another call: workers that leave in good order finish their work, or hand it
//! over.

use std::collections::BTreeMap;

use partitura::history::{Event, EventKind};
use partitura_broker::{Message, Put};

use crate::model::calls::{RUN, Task};
use crate::rows::{body, mentions};
use crate::world::State;

impl State {
    /// Notes a call of a task. A task keeps its key over all attempts, and a key belongs to one task. An attempt is
    /// called once unless a fault explains another call, and `last` is the last one, unless its worker was lost.
    pub(crate) fn service_was_called(&mut self, (key, attempt): (&str, u32), what: String, last: Option<u32>) {
        let fresh = || Task { what: what.clone(), attempts: BTreeMap::new(), last };
        let task = self.audit.calls.tasks.entry(key.to_owned()).or_insert_with(fresh);
        let count = task.attempts.entry(attempt).or_default();
        *count += 1;
        let (count, known) = (*count, task.what.clone());
        if known != what && !self.audit.deletions.has_begun_again(key.get(..RUN).unwrap_or(key)) {
            let text = format!("{key} is that of {known} and of {what}");
            self.violate("an idempotency key belongs to one task", text);
        }
        if let Some(last) = last.filter(|last| attempt > *last) {
            let text = format!("{key}: {what}, attempt {attempt}, of which {last} is the last");
            self.violate("a task is not tried again without a reason", text);
        }
        let explained = self.audit.calls.explained(key, attempt);
        if count > explained {
            let text = format!("{key}: {what}, attempt {attempt}, is called {count} times; {explained} are explained");
            self.violate("a task is called once", text);
        }
        self.check_demand(key, attempt, &what);
    }

    /// Checks that, without faults, no task is tried again after its workflow has ended.
    fn check_demand(&mut self, key: &str, attempt: u32, what: &str) {
        let run = key.get(..RUN).unwrap_or(key);
        let Some(ended) = self.audit.calls.ended.get(run).copied().filter(|_| self.plan.faultless) else { return };
        // The answer was under way.
        let grace = 3 * self.plan.latency + self.plan.visible_after + 10;
        if attempt > 1 && self.now() > ended + grace {
            let text = format!("{key}: {what}, attempt {attempt}, {} ms after the end", self.now() - ended);
            self.violate("nothing is tried again for a workflow that has ended", text);
        }
    }

    /// Notes a run of a step. It runs once unless a fault explains another run.
    pub(crate) fn step_was_run(&mut self, run: &str, number: usize) {
        let key = format!("{run}.{number}");
        self.note("step", format_args!("{key} runs"));
        let count = self.audit.calls.steps.entry(key.clone()).or_default();
        *count += 1;
        let count = *count;
        let explained = 1 + self.audit.calls.of_all(run) + self.clock_was_wrong();
        if count > explained {
            let text = format!("{key} runs for the {count}th time; {explained} are explained");
            self.violate("a step runs once", text);
        }
    }

    /// Whether a time limit may have ended early.
    fn clock_was_wrong(&self) -> u32 {
        u32::from(self.jumped > 0 || self.ahead > 0 || self.plan.early > 0)
    }

    /// Notes the tasks, steps or the end of a turn.
    pub(crate) fn turn_was_written(&mut self, value: &[u8], run: &str) {
        let asks = ["\"TaskScheduled\"", "\"StepScheduled\"", "\"Workflow"];
        if !asks.iter().any(|ask| mentions(value, ask)) {
            return;
        }
        let now = self.now();
        let calls = &mut self.audit.calls;
        for event in body::<Vec<Event>>(value).unwrap_or_default() {
            match event.kind {
                EventKind::TaskScheduled { seq, .. } => {
                    calls.asked.insert(format!("{run}.{seq}"), now);
                }
                EventKind::StepScheduled { .. } => {
                    calls.asked.entry(run.to_owned()).or_insert(now);
                }
                end if end.is_end() => {
                    if let EventKind::WorkflowContinued { run: next, .. } = end {
                        calls.concern_next(run, next);
                    }
                    calls.ended.insert(run.to_owned(), now);
                }
                _ => {}
            }
        }
    }

    /// Notes a request with these messages that failed, or whose outcome is unknown.
    pub(crate) fn trouble_with<'a>(&mut self, messages: impl IntoIterator<Item = &'a Message>) {
        let runs = messages.into_iter().flat_map(|message| runs_in(message.id.as_str())).collect();
        self.audit.calls.trouble(runs);
    }

    /// Notes a write that failed, or whose outcome is unknown.
    pub(crate) fn trouble_with_write(&mut self, group: &[Put]) {
        let runs = group.iter().flat_map(|put| runs_in(&String::from_utf8_lossy(&put.key))).collect();
        self.audit.calls.trouble(runs);
    }

    /// Notes a delivery.
    pub(crate) fn was_delivered(&mut self, message: &str) {
        *self.audit.calls.delivered.entry(original(message).to_owned()).or_default() += 1;
    }

    /// Notes a second copy or a redelivery of a message.
    pub(crate) fn comes_again(&mut self, message: &str) {
        if !self.plan.faultless {
            *self.audit.calls.copies.entry(original(message).to_owned()).or_default() += 1;
        }
    }

    /// Notes a task that ran for longer than its leaving worker could wait.
    pub(crate) fn was_cut_short(&mut self, message: &str) {
        *self.audit.calls.copies.entry(message.to_owned()).or_default() += 1;
    }

    /// Notes that a worker is lost, is cut off, is told of that, or is late to release its partitions.
    pub(crate) fn upheaval(&mut self) {
        let now = self.now();
        if !self.plan.faultless {
            self.audit.calls.upheavals.push(now);
        }
    }
}

/// The id of the request of a task, whose copy this may be: a task that leaves its delivery, or is put back since there
/// is no room for it, goes on as a copy with a number.
fn original(message: &str) -> &str {
    match message.rsplit_once(".c") {
        Some((request, number)) if number.parse::<u32>().is_ok() => request,
        _ => message,
    }
}

/// The runs that a text names.
fn runs_in(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_hexdigit() || letter == '-'));
    words.filter(|word| word.len() == RUN).map(str::to_owned).collect()
}
