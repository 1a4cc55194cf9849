//! One live instance in memory, and what the engine keeps beside its code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use partitura_broker::{Result, Timestamp, Version};
use partitura_workflow::{Event, EventKind, Execution, Failure, FailureKind, ParentEnd};

use crate::storage::children::{self, Child};
use crate::storage::heartbeats::{self, Beat};
use crate::storage::turn_store::TurnStore;
use crate::wire::names::InstanceKey;
use crate::wire::summary::{Status, Summary};
use crate::wire::waiting::Known;
use crate::wire::{ReplyTo, TaskRequest};
use crate::workflow::steps::OVERDUE_AFTER;

/// The instance that a turn works on.
#[derive(Debug)]
pub(crate) enum Instance {
    /// Nothing is known yet.
    Unknown,
    /// There is none: for certain, or assumed of a start, which the store then confirms.
    Absent,
    Live(Box<Live>),
    /// No code runs; inputs are kept. Its code cannot go on, or it is ended without being asked.
    Stopped {
        summary: Box<Summary>,
        next_turn: u32,
        notes: Box<Notes>,
    },
    Closed {
        summary: Box<Summary>,
        version: Version,
    },
}

impl Instance {
    /// Whether it saves reading it again: it has not ended, and what is known of it is what is stored.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        match self {
            Self::Live(live) => !live.summary.status.is_closed(),
            Self::Stopped { summary, .. } => matches!(summary.status, Status::Stopped { .. } | Status::Paused { .. }),
            Self::Unknown | Self::Absent | Self::Closed { .. } => false,
        }
    }
}

/// A live instance: the code at its present await, and the engine's own notes. All of it can be rebuilt from history.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) execution: Execution,
    pub(crate) summary: Summary,
    /// The number of the turn to be written next.
    pub(crate) next_turn: u32,
    pub(crate) notes: Notes,
}

/// Notes that the engine derives from history for itself.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Children that have not ended and may have to learn that the parent does.
    pub(crate) children: BTreeMap<u32, Child>,
    /// Children that were added or removed since the last turn was written, and share the fate of the parent.
    changed_children: BTreeSet<u32>,
    /// Tasks that have neither a result nor were cancelled, with their services. Those that were not detached are to be
    /// told when the workflow ends.
    pub(crate) tasks: BTreeMap<u32, String>,
    /// Tasks that outlive the workflow.
    pub(crate) detached: BTreeSet<u32>,
    /// The history cannot be read: what is open is not known.
    pub(crate) unread: bool,
    /// There is a policy by which it is tried again when it fails.
    pub(crate) is_retried: bool,
    /// Where its starter waits for the outcome.
    pub(crate) reply_to: Option<ReplyTo>,
    /// The time of the latest event, in milliseconds.
    pub(crate) latest: u64,
    /// How many events the history has.
    pub(crate) events: usize,
    /// How much the history takes in the store.
    pub(crate) bytes: usize,
    /// Tasks without a result that have a heartbeat time-out or were delegated, as they were first sent.
    watched: BTreeMap<u32, Box<TaskRequest>>,
    /// The last sign of life of each running task.
    beats: BTreeMap<u32, Beat>,
    /// When the instance looks after the heartbeats of a task, in milliseconds.
    looks: BTreeMap<u32, u64>,
    /// Tasks of which heartbeats were kept, and that ended in this turn.
    silenced: Vec<u32>,
    /// Tasks that nobody wants any more since this turn.
    cancelled_tasks: Vec<u32>,
    /// The messages that it has sent to itself to come later, and may still need.
    delays: BTreeMap<(u32, Purpose), Delay>,
    /// Timers and steps that its code has let go in this turn.
    abandoned: Vec<u32>,
    /// The messages that it needs no longer since its last turn.
    cancelled_delays: Vec<(u32, Delay)>,
}

/// A delayed message of an instance to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) purpose: Purpose,
    /// In milliseconds.
    pub(crate) due: u64,
}

/// The number that stands for the run itself: what code builds is numbered from 1.
pub(crate) const RUN: u32 = 0;

/// The purpose of a delayed message.
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
    /// The time-out of the run.
    RunExpiry,
}

impl Notes {
    pub(crate) fn from_history(key: &InstanceKey, run: &str, history: &[Event]) -> Self {
        let mut notes = Self { events: history.len(), ..Self::default() };
        for event in history {
            notes.record(key, run, event);
        }
        // The owners that took those turns have seen to it.
        notes.cancelled_delays.clear();
        notes.silenced.clear();
        notes.cancelled_tasks.clear();
        notes.changed_children.clear();
        notes
    }

    /// The history grows by these events, which take these bytes.
    pub(crate) fn grow(&mut self, (events, bytes): (usize, usize)) {
        self.events += events;
        self.bytes += bytes;
    }

    pub(crate) fn record(&mut self, key: &InstanceKey, run: &str, event: &Event) {
        self.latest = self.latest.max(event.at);
        self.record_delays(event);
        self.record_tasks(key, run, event);
        self.record_children(event);
        if let EventKind::WorkflowStarted(started) = &event.kind {
            self.is_retried = started.retry.is_some();
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
        // A child that was started in the same turn was never written.
        if self.children.remove(&seq).is_some_and(|child| child.shares_fate()) && !self.changed_children.remove(&seq) {
            self.changed_children.insert(seq);
        }
    }

    /// Adds the children that are kept beside the history of a run, which cannot be read itself.
    pub(crate) async fn restore_children(
        &mut self,
        turn_store: &TurnStore,
        key: &InstanceKey,
        run: &str,
    ) -> Result<()> {
        self.children.extend(children::kept(turn_store, key, run).await?);
        Ok(())
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
                let beat = self.beats.entry(*seq).or_insert_with(|| Beat::first(*attempt, Timestamp::default()));
                (beat.attempt, beat.at) = (*attempt, event.at);
                beat.progressed(*attempt, details.clone());
            }
            EventKind::TaskCompleted { seq, .. } => self.end_task(*seq),
            EventKind::TaskFailed { seq, .. } | EventKind::TaskCancelRequested { seq } => {
                self.end_task(*seq);
                self.cancelled_tasks.push(*seq);
            }
            end if end.is_end() => {
                self.cancelled_tasks.extend(self.tasks.keys());
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
        self.cancelled_delays.extend(look);
    }

    /// Whether a timer of this number is open.
    pub(crate) fn has_timer(&self, seq: u32) -> bool {
        self.delays.contains_key(&(seq, Purpose::Timer))
    }

    /// Whether a task may be running.
    pub(crate) fn has_open_tasks(&self) -> bool {
        !(self.tasks.is_empty() && self.detached.is_empty())
    }

    /// A task with a heartbeat time-out, as it was first sent.
    pub(crate) fn watched(&self, seq: u32) -> Option<&TaskRequest> {
        self.watched.get(&seq).map(|request| &**request)
    }

    /// Watches over a task whose attempt was delegated.
    pub(crate) fn watch(&mut self, request: TaskRequest) {
        self.watched.entry(request.seq).or_insert_with(|| Box::new(request));
    }

    /// The last sign of life of each running task.
    pub(crate) fn beats(&mut self) -> &mut BTreeMap<u32, Beat> {
        &mut self.beats
    }

    /// The latest attempt of a task that is known here.
    pub(crate) fn attempt_of(&self, task: u32) -> Option<u32> {
        self.beats.get(&task).map(|beat| beat.attempt)
    }

    /// The moment at which a task is overdue, if there is one, and how it has failed then.
    pub(crate) fn overdue(&self, task: u32) -> Option<(Timestamp, Failure)> {
        let (beat, request) = (self.beats.get(&task)?, self.watched.get(&task)?);
        let silent = request.options.heartbeat_timeout.map(|limit| {
            let failure = Failure::new(FailureKind::WorkerLost, format!("no heartbeat within {limit:?}"));
            (Timestamp::from_millis(beat.at) + limit, failure)
        });
        let late = beat.delegation().and_then(|delegated| delegated.due).map(|due| {
            let limit = request.options.timeout.unwrap_or_default();
            let failure = Failure::new(FailureKind::TimedOut, format!("not completed from outside within {limit:?}"));
            (Timestamp::from_millis(due), failure)
        });
        silent.into_iter().chain(late).min_by_key(|(at, _)| *at)
    }

    /// Describes a task for those who ask.
    pub(crate) fn known_of(&self, task: u32) -> Option<Known> {
        self.beats.get(&task).map(Beat::known)
    }

    /// When it looks after the heartbeats of a task, where that is known.
    pub(crate) fn looks(&mut self) -> &mut BTreeMap<u32, u64> {
        &mut self.looks
    }

    /// Adds the heartbeats that are kept beside the history of a run, of its open tasks.
    pub(crate) async fn restore_beats(
        &mut self,
        turn_store: &TurnStore,
        (key, run): (&InstanceKey, &str),
        history: &[Event],
    ) -> Result<()> {
        if !self.has_open_tasks() {
            return Ok(());
        }
        let is_open = |seq: &u32| self.tasks.contains_key(seq) || self.detached.contains(seq);
        let kept = heartbeats::kept(turn_store, key, run).await?;
        self.beats.extend(kept.into_iter().filter(|(seq, _)| is_open(seq)));
        let is_unwatched = |(seq, beat): &(&u32, &Beat)| beat.delegated.is_some() && !self.watched.contains_key(seq);
        let unwatched: BTreeSet<u32> = self.beats.iter().filter(is_unwatched).map(|(seq, _)| *seq).collect();
        if !unwatched.is_empty() {
            let is_sought = |event: &&Event| event.kind.seq().is_some_and(|seq| unwatched.contains(&seq));
            let requests = history.iter().filter(is_sought).filter_map(|event| TaskRequest::first(key, run, event));
            requests.for_each(|request| self.watch(request));
        }
        Ok(())
    }

    /// The tasks whose heartbeats are to be removed, and those that are to be told that they are not wanted, once all
    /// events of a turn are recorded.
    pub(crate) fn take_ended(&mut self) -> (Vec<u32>, Vec<u32>) {
        (std::mem::take(&mut self.silenced), std::mem::take(&mut self.cancelled_tasks))
    }

    fn record_delays(&mut self, event: &Event) {
        let after = |limit: Duration| event.at.saturating_add(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        match &event.kind {
            EventKind::WorkflowStarted(started) => {
                if let Some(due) = started.expires(event.at) {
                    self.delay(RUN, Purpose::RunExpiry, due);
                }
            }
            EventKind::TimerStarted { seq, due_at_ms, .. } => self.delay(*seq, Purpose::Timer, *due_at_ms),
            EventKind::TaskScheduled { seq, options, .. } => {
                if let Some(limit) = options.overall_timeout {
                    self.delay(*seq, Purpose::TaskExpiry, after(limit));
                }
                if let Some(limit) = options.start_timeout {
                    self.delay(*seq, Purpose::TaskStart, after(limit));
                }
            }
            EventKind::StepScheduled { seq, .. } => self.delay(*seq, Purpose::StepOverdue, after(OVERDUE_AFTER)),
            // By hand it is early, and its message is still to come.
            EventKind::TimerFired { seq }
            | EventKind::TimerCancelled { seq }
            | EventKind::TaskCompleted { seq, .. }
            | EventKind::TaskFailed { seq, .. }
            | EventKind::TaskCancelRequested { seq }
            | EventKind::StepCompleted { seq, .. }
            | EventKind::StepFailed { seq, .. } => self.let_go(*seq),
            end if end.is_end() => {
                let delays = std::mem::take(&mut self.delays);
                self.cancelled_delays.extend(delays.into_iter().map(|((seq, _), delay)| (seq, delay)));
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
        self.cancelled_delays.extend(delays.map(|delay| (seq, delay)));
    }

    /// The code has let go of timers or steps, which may have been started in the same turn.
    pub(crate) fn abandon(&mut self, let_go: impl IntoIterator<Item = u32>) {
        self.abandoned.extend(let_go);
    }

    /// Takes the delays that are needed no longer, once all events of a turn are recorded.
    pub(crate) fn take_cancelled_delays(&mut self) -> Vec<(u32, Delay)> {
        for seq in std::mem::take(&mut self.abandoned) {
            self.let_go(seq);
        }
        std::mem::take(&mut self.cancelled_delays)
    }
}
