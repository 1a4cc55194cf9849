//! One live instance in memory, and what the engine keeps beside its code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use partitura_broker::Timestamp;
use partitura_workflow::{Event, EventKind, Execution, ParentEnd, Started};

use crate::children::Child;
use crate::heartbeats::Beat;
use crate::names::InstanceKey;
use crate::steps::PATIENCE;
use crate::summary::{Status, Summary};
use crate::wire::{ReplyTo, TaskRequest};

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
    /// Children that have not ended and may have to learn that the parent does.
    pub(crate) children: BTreeMap<u32, Child>,
    /// Children that were added or removed since the last turn was written, and share the fate of the parent.
    changed_children: BTreeSet<u32>,
    /// Tasks that have neither a result nor were cancelled, with their services. Those that were not detached are to be told when
    /// the workflow ends.
    pub(crate) tasks: BTreeMap<u32, String>,
    /// Tasks that outlive the workflow.
    pub(crate) detached: BTreeSet<u32>,
    /// The history cannot be read: what is open is not known.
    pub(crate) unread: bool,
    /// Where its starter waits for the outcome.
    pub(crate) reply_to: Option<ReplyTo>,
    /// The time of the latest event, in milliseconds.
    pub(crate) latest: u64,
    /// Tasks with a heartbeat time-out that have no result, as they were first sent.
    watched: BTreeMap<u32, Box<TaskRequest>>,
    /// The last sign of life of each running task.
    beats: BTreeMap<u32, Beat>,
    /// When the instance looks after the heartbeats of a task, in milliseconds.
    looks: BTreeMap<u32, u64>,
    /// Tasks of which heartbeats were kept, and that ended in this turn.
    silenced: Vec<u32>,
    /// Tasks that nobody wants any more since this turn.
    unwanted: Vec<u32>,
    /// What it has sent to itself to come later, and may still need.
    delays: BTreeMap<(u32, Purpose), Delay>,
    /// Timers and steps that its code has let go in this turn.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Timer,
    /// The overall time-out of a task.
    TaskExpiry,
    /// The time-out for the start of a task.
    TaskStart,
    /// The first look after a step.
    StepOverdue,
    /// A look after a task's heartbeats.
    HeartbeatDue,
}

impl Notes {
    pub(crate) fn of(key: &InstanceKey, run: &str, history: &[Event]) -> Self {
        let mut notes = Self::default();
        for event in history {
            notes.record(key, run, event);
        }
        // Whoever took those turns has seen to it.
        notes.unneeded.clear();
        notes.silenced.clear();
        notes.unwanted.clear();
        notes.changed_children.clear();
        notes
    }

    pub(crate) fn record(&mut self, key: &InstanceKey, run: &str, event: &Event) {
        self.latest = self.latest.max(event.at);
        self.record_delays(event);
        self.record_tasks(key, run, event);
        self.record_children(event);
        if let EventKind::WorkflowStarted(started) = &event.kind {
            self.reply_to = started.reply_to.clone().and_then(|to| ReplyTo::try_from(to).ok());
        }
    }

    fn record_children(&mut self, event: &Event) {
        match &event.kind {
            EventKind::ChildStarted { seq, workflow, id, detached: false, on_parent_end, .. }
                if !self.detached.contains(seq) =>
            {
                let (workflow, id) = (workflow.clone(), id.clone());
                let child = Child { workflow, id, on_parent_end: *on_parent_end };
                if child.shares_fate() {
                    self.changed_children.insert(*seq);
                }
                self.children.insert(*seq, child);
            }
            // One that is to be terminated may go on for long after it was asked to cancel.
            EventKind::ChildCancelRequested { seq }
                if self.children.get(seq).is_some_and(|child| child.on_parent_end == ParentEnd::Terminate) => {}
            EventKind::ChildCompleted { seq, .. }
            | EventKind::ChildFailed { seq, .. }
            | EventKind::ChildCancelRequested { seq } => self.end_child(*seq),
            EventKind::Detached { seq } => self.detach(*seq),
            end if end.is_end() => {
                let open: Vec<u32> = self.children.keys().copied().collect();
                open.into_iter().for_each(|seq| self.end_child(seq));
            }
            _ => {}
        }
    }

    fn end_child(&mut self, seq: u32) {
        // What was started in the same turn was never written.
        if self.children.remove(&seq).is_some_and(|child| child.shares_fate()) && !self.changed_children.remove(&seq) {
            self.changed_children.insert(seq);
        }
    }

    /// Adds what was kept of a child beside the history.
    pub(crate) fn restore_child(&mut self, seq: u32, child: Child) {
        self.children.insert(seq, child);
    }

    /// The children of which a row is to be written or removed, once all events of a turn are recorded.
    pub(crate) fn take_changed_children(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.changed_children)
    }

    fn record_tasks(&mut self, key: &InstanceKey, run: &str, event: &Event) {
        match &event.kind {
            EventKind::TaskScheduled { seq, service, options, .. } => {
                if !self.detached.contains(seq) {
                    self.tasks.insert(*seq, service.clone());
                }
                let watched = TaskRequest::first(key, run, event).filter(|_| options.heartbeat_timeout.is_some());
                self.watched.extend(watched.map(|request| (*seq, Box::new(request))));
            }
            // Heartbeats were once part of the history.
            EventKind::TaskHeartbeat { seq, attempt, details } => {
                let beat = self.beats.entry(*seq).or_insert_with(|| Beat::of(*attempt, Timestamp::default()));
                (beat.attempt, beat.at) = (*attempt, event.at);
                beat.progressed(*attempt, details.clone());
            }
            EventKind::TaskCompleted { seq, .. } => self.end_task(*seq),
            EventKind::TaskFailed { seq, .. } | EventKind::TaskCancelRequested { seq } => {
                self.end_task(*seq);
                self.unwanted.push(*seq);
            }
            end if end.is_end() => {
                self.unwanted.extend(self.tasks.keys());
                let known: Vec<u32> = self.tasks.keys().chain(self.beats.keys()).copied().collect();
                known.into_iter().for_each(|seq| self.end_task(seq));
            }
            _ => {}
        }
    }

    fn end_task(&mut self, seq: u32) {
        self.tasks.remove(&seq);
        self.watched.remove(&seq);
        if self.beats.remove(&seq).is_some_and(|beat| beat.version > 0) {
            self.silenced.push(seq);
        }
        let look = self.looks.remove(&seq).map(|due| (seq, Delay { purpose: Purpose::HeartbeatDue, due }));
        self.unneeded.extend(look);
    }

    /// Whether a task may be running.
    pub(crate) fn has_open_tasks(&self) -> bool {
        !(self.tasks.is_empty() && self.detached.is_empty())
    }

    /// A task with a heartbeat time-out, as it was first sent.
    pub(crate) fn watched(&self, seq: u32) -> Option<&TaskRequest> {
        self.watched.get(&seq).map(|request| &**request)
    }

    /// The last sign of life of each running task.
    pub(crate) fn beats(&mut self) -> &mut BTreeMap<u32, Beat> {
        &mut self.beats
    }

    /// The latest attempt of a task that is known here.
    pub(crate) fn attempt_of(&self, task: u32) -> Option<u32> {
        self.beats.get(&task).map(|beat| beat.attempt)
    }

    /// When it looks after the heartbeats of a task, where that is known.
    pub(crate) fn looks(&mut self) -> &mut BTreeMap<u32, u64> {
        &mut self.looks
    }

    /// Adds what was kept of a task beside the history.
    pub(crate) fn restore(&mut self, seq: u32, beat: Beat) {
        if self.tasks.contains_key(&seq) || self.detached.contains(&seq) {
            self.beats.insert(seq, beat);
        }
    }

    /// The tasks whose heartbeats are to be removed, and those that are to be told that they are not wanted, once all
    /// events of a turn are recorded.
    pub(crate) fn take_ended(&mut self) -> (Vec<u32>, Vec<u32>) {
        (std::mem::take(&mut self.silenced), std::mem::take(&mut self.unwanted))
    }

    fn record_delays(&mut self, event: &Event) {
        let after = |limit: Duration| event.at.saturating_add(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        match &event.kind {
            EventKind::TimerStarted { seq, due_at_ms, .. } => self.delay(*seq, Purpose::Timer, *due_at_ms),
            EventKind::TaskScheduled { seq, options, .. } => {
                if let Some(limit) = options.overall_timeout {
                    self.delay(*seq, Purpose::TaskExpiry, after(limit));
                }
                if let Some(limit) = options.start_timeout {
                    self.delay(*seq, Purpose::TaskStart, after(limit));
                }
            }
            EventKind::StepScheduled { seq, .. } => self.delay(*seq, Purpose::StepOverdue, after(PATIENCE)),
            EventKind::TimerFired { seq } => {
                self.delays.remove(&(*seq, Purpose::Timer));
            }
            EventKind::TimerCancelled { seq }
            | EventKind::TaskCompleted { seq, .. }
            | EventKind::TaskFailed { seq, .. }
            | EventKind::TaskCancelRequested { seq }
            | EventKind::StepCompleted { seq, .. }
            | EventKind::StepFailed { seq, .. } => self.let_go(*seq),
            end if end.is_end() => {
                let delays = std::mem::take(&mut self.delays);
                self.unneeded.extend(delays.into_iter().map(|((seq, _), delay)| (seq, delay)));
            }
            _ => {}
        }
    }

    fn delay(&mut self, seq: u32, purpose: Purpose, due: u64) {
        self.delays.insert((seq, purpose), Delay { purpose, due });
    }

    /// A task or child is to outlive the workflow. Known ahead of the other events of its turn: requests say it.
    pub(crate) fn detach(&mut self, seq: u32) {
        self.end_child(seq);
        self.tasks.remove(&seq);
        self.detached.insert(seq);
    }

    fn let_go(&mut self, seq: u32) {
        let purposes = [Purpose::Timer, Purpose::TaskExpiry, Purpose::TaskStart, Purpose::StepOverdue];
        let delays = purposes.into_iter().filter_map(|purpose| self.delays.remove(&(seq, purpose)));
        self.unneeded.extend(delays.map(|delay| (seq, delay)));
    }

    /// The code has let go of timers or steps, which may have been started in the same turn.
    pub(crate) fn abandon(&mut self, let_go: impl IntoIterator<Item = u32>) {
        self.abandoned.extend(let_go);
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
        awaited_by: Vec::new(),
        end: None,
        waiting: Vec::new(),
        waits_for: 0,
        held_up: None,
        detached: Vec::new(),
    }
}
