//! One live instance in memory, and what the engine keeps beside its code.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use partitura_workflow::{Event, EventKind, Execution, ParentEnd, Payload, Started};

use crate::effects::child_run;
use crate::steps::PATIENCE;
use crate::summary::{Status, Summary};

/// A live instance: the code at its present await, and the engine's own notes. All of it can be rebuilt from history.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) execution: Execution,
    pub(crate) summary: Summary,
    /// The number of the turn to be written next.
    pub(crate) next_turn: u32,
    pub(crate) notes: Notes,
}

/// What the engine derives from history for itself.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Children that have not ended and are to be cancelled when the parent ends.
    pub(crate) children: BTreeMap<u32, ChildNote>,
    /// Tasks that have neither a result nor were cancelled, with their services. Those that were not detached are to be told when
    /// the workflow ends.
    pub(crate) tasks: BTreeMap<u32, String>,
    /// Tasks that outlive the workflow.
    pub(crate) detached: BTreeSet<u32>,
    /// The time of the latest event, in milliseconds.
    pub(crate) latest: u64,
    /// The last sign of life of each running task.
    pub(crate) heartbeats: HashMap<u32, Option<Payload>>,
    /// What it has sent to itself to come later, and may still need.
    delays: BTreeMap<u32, Delay>,
    /// Timers that its code has let go in this turn.
    abandoned: Vec<u32>,
    /// What it needs no longer since its last turn.
    unneeded: Vec<(u32, Delay)>,
}

/// A delayed message of an instance to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) purpose: Purpose,
    /// In milliseconds.
    pub(crate) due: u64,
}

/// What a delayed message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Timer,
    /// The overall time-out of a task.
    TaskExpiry,
    /// The first look after a step.
    StepOverdue,
}

#[derive(Debug)]
pub(crate) struct ChildNote {
    pub(crate) workflow: String,
    pub(crate) id: String,
    pub(crate) run: String,
    /// It goes on when the parent ends.
    pub(crate) abandoned: bool,
}

impl Notes {
    pub(crate) fn of(run: &str, history: &[Event]) -> Self {
        let mut notes = Self::default();
        for event in history {
            notes.record(run, event);
        }
        // Whoever took those turns has seen to it.
        notes.unneeded.clear();
        notes
    }

    pub(crate) fn record(&mut self, run: &str, event: &Event) {
        self.latest = self.latest.max(event.at);
        self.record_delays(event);
        match &event.kind {
            EventKind::ChildStarted { seq, workflow, id, detached: false, on_parent_end, .. }
                if !self.detached.contains(seq) =>
            {
                let (workflow, id, run) = (workflow.clone(), id.clone(), child_run(run, *seq));
                let note = ChildNote { workflow, id, run, abandoned: *on_parent_end == ParentEnd::Abandon };
                self.children.insert(*seq, note);
            }
            EventKind::ChildCompleted { seq, .. }
            | EventKind::ChildFailed { seq, .. }
            | EventKind::ChildCancelRequested { seq } => {
                self.children.remove(seq);
            }
            EventKind::TaskScheduled { seq, service, .. } if !self.detached.contains(seq) => {
                self.tasks.insert(*seq, service.clone());
            }
            EventKind::Detached { seq } => self.detach(*seq),
            EventKind::TaskCancelRequested { seq } => {
                self.tasks.remove(seq);
                self.heartbeats.remove(seq);
            }
            EventKind::TaskHeartbeat { seq, details, .. } => {
                self.heartbeats.insert(*seq, details.clone());
            }
            EventKind::TaskCompleted { seq, .. } | EventKind::TaskFailed { seq, .. } => {
                self.tasks.remove(seq);
                self.heartbeats.remove(seq);
            }
            _ => {}
        }
    }

    fn record_delays(&mut self, event: &Event) {
        let after = |limit: Duration| event.at.saturating_add(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let (seq, purpose, due) = match &event.kind {
            EventKind::TimerStarted { seq, due_at_ms, .. } => (seq, Purpose::Timer, *due_at_ms),
            EventKind::TaskScheduled { seq, options, .. } => match options.overall_timeout {
                Some(limit) => (seq, Purpose::TaskExpiry, after(limit)),
                None => return,
            },
            EventKind::StepScheduled { seq, .. } => (seq, Purpose::StepOverdue, after(PATIENCE)),
            EventKind::TimerFired { seq } => {
                self.delays.remove(seq);
                return;
            }
            EventKind::TimerCancelled { seq }
            | EventKind::TaskCompleted { seq, .. }
            | EventKind::TaskFailed { seq, .. }
            | EventKind::TaskCancelRequested { seq }
            | EventKind::StepCompleted { seq, .. }
            | EventKind::StepFailed { seq, .. } => return self.let_go(*seq),
            end if end.is_end() => return self.unneeded.extend(std::mem::take(&mut self.delays)),
            _ => return,
        };
        self.delays.insert(*seq, Delay { purpose, due });
    }

    /// The tasks, and their services, that nobody wants any more because of `event`, which is yet to be recorded.
    pub(crate) fn unwanted_by(&self, event: &EventKind) -> Vec<(u32, &str)> {
        match event {
            EventKind::TaskCancelRequested { seq } => {
                self.tasks.get_key_value(seq).map(|(seq, service)| (*seq, service.as_str())).into_iter().collect()
            }
            end if end.is_end() => self.tasks.iter().map(|(seq, service)| (*seq, service.as_str())).collect(),
            _ => Vec::new(),
        }
    }

    /// A task or child is to outlive the workflow. Known ahead of the other events of its turn: requests say it.
    pub(crate) fn detach(&mut self, seq: u32) {
        self.children.remove(&seq);
        self.tasks.remove(&seq);
        self.detached.insert(seq);
    }

    fn let_go(&mut self, seq: u32) {
        self.unneeded.extend(self.delays.remove(&seq).map(|delay| (seq, delay)));
    }

    /// The code has let go of timers, which may have been started in the same turn.
    pub(crate) fn abandon(&mut self, timers: Vec<u32>) {
        self.abandoned.extend(timers);
    }

    /// What is needed no longer, once all events of a turn are recorded.
    pub(crate) fn take_unneeded(&mut self) -> Vec<(u32, Delay)> {
        for seq in std::mem::take(&mut self.abandoned) {
            self.let_go(seq);
        }
        std::mem::take(&mut self.unneeded)
    }
}

/// The summary of an instance that begins now.
pub(crate) fn beginning(started: &Started, at: u64) -> Summary {
    Summary {
        workflow: started.workflow.clone(),
        id: started.id.clone(),
        run: started.run.clone(),
        status: Status::Running,
        started_at: at,
        closed_at: None,
        tags: started.tags.clone(),
        parent: started.parent.clone(),
        end: None,
        waiting: Vec::new(),
        waits_for: 0,
        detached: Vec::new(),
    }
}
