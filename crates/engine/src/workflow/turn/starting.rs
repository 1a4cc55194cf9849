//! How instances begin, or are taken as they are.

use partitura_broker::Expect;
use partitura_workflow::{Event, EventKind, Execution, Failure, FailureKind, ParentRef, RULES, Started};
use uuid::Uuid;

use super::lifecycle::stopped_event;
use super::{Abandoned, Turn};
use crate::code;
use crate::storage::history;
use crate::storage::turn_store::HISTORY;
use crate::wire::ids::seed_of;
use crate::wire::names::child_run;
use crate::wire::summary::Summary;
use crate::wire::{Outcome, ReplyBody, Request, Start, StartPolicy, StartSignal};
use crate::workflow::beginning::beginning;
use crate::workflow::instance::{Instance, Live, Notes};
use crate::workflow::{effects, end_signals};

/// How many parents may await an instance that they did not start.
const MOST_PARENTS: usize = 1_000;

impl Turn<'_> {
    /// The broker's longest delay is over, and the start is not due: it waits again.
    pub(super) fn start_later(&mut self, start: Start) -> Result<(), Abandoned> {
        self.unit.publish.push(effects::start_later(&self.context.directory, self.key, start, self.now)?);
        Ok(())
    }

    /// Starts the instance or takes the one that is there, and sends it the signal or the update that goes with the
    /// start.
    pub(super) async fn start(&mut self, mut start: Start) -> Result<(), Abandoned> {
        if let Some(update) = start.update.take() {
            return self.start_with_update(start, update).await;
        }
        let Some(StartSignal { name, payload }) = start.signal.take() else { return self.start_or_take(start).await };
        let (run, policy) = (start.run.clone(), start.policy);
        let ended = self.summary().filter(|summary| summary.status.is_closed()).map(|summary| summary.run.clone());
        if let Some(ended) = ended.filter(|ended| policy == StartPolicy::UseExisting && *ended != run) {
            self.after.replies.extend(start.accepted.map(|to| (to, ReplyBody::Closed { run: ended })));
            return Ok(());
        }
        // A copy of a start whose run is over: the signal was there, and is not for this one.
        let is_copy = match self.summary() {
            Some(summary) if summary.run != run => self.has_begun(&run).await?,
            _ => false,
        };
        self.start_or_take(start).await?;
        self.continue_as_new()?;
        let is_taken = policy != StartPolicy::Reject || self.summary().is_some_and(|summary| summary.is_run(&run));
        if is_taken && !is_copy {
            self.signal(name, payload, Request::default(), &format!("start:{run}")).await?;
        }
        Ok(())
    }

    pub(super) async fn start_or_take(&mut self, start: Start) -> Result<(), Abandoned> {
        let existing = self.summary().map(|summary| summary.run.clone());
        let expect = match existing {
            None => Expect::Absent,
            Some(run) if run == start.run => return self.already_started(start),
            // A copy of a start whose run was replaced since.
            Some(_) if start.policy != StartPolicy::UseExisting && self.has_begun(&start.run).await? => {
                return self.already_started(start);
            }
            Some(_) if start.policy == StartPolicy::UseExisting && start.end_signal.is_some() => {
                return self.tell_end(start);
            }
            Some(run) => match (start.policy, &start.parent) {
                (StartPolicy::UseExisting, None) => return self.already_started(start),
                (StartPolicy::UseExisting, Some(parent)) => {
                    let parent = parent.clone();
                    return self.tell_at_end(parent);
                }
                (StartPolicy::Reject, Some(parent)) if self.is_left_by_earlier_run(parent) => self.make_way()?,
                (StartPolicy::Reject, Some(parent)) => {
                    let message = format!("{} exists already; a child needs an id of its own", self.key);
                    let outcome = Outcome::Err(Failure::new(FailureKind::Unknown, message));
                    self.unit.publish.push(effects::child_done(&self.context.directory, parent, &start.run, outcome)?);
                    return Ok(());
                }
                (StartPolicy::Reject, None) => {
                    self.after.replies.extend(start.accepted.map(|to| (to, ReplyBody::Rejected { run })));
                    return Ok(());
                }
                (StartPolicy::Replace, _) => self.make_way()?,
                (StartPolicy::RestartEnded, _) if self.has_ended(|_| true) => self.make_way()?,
                (StartPolicy::RestartFailed, _) if self.has_ended(|end| !is_result(end)) => self.make_way()?,
                (StartPolicy::RestartEnded | StartPolicy::RestartFailed, _) => return self.already_started(start),
            },
        };
        let indexed = self.summary().map(|before| before.indexed.clone()).unwrap_or_default();
        let (at, reply_to) = (self.now.as_millis(), start.reply_to.clone());
        let begun = ReplyBody::Started { run: start.run.clone(), is_new: true };
        self.after.replies.extend(start.accepted.clone().map(|to| (to, begun)));
        let end_signals = start.end_signal.iter().cloned().collect();
        let started = self.started(start);
        let summary = Summary { indexed, end_signals, ..beginning(&started, at) };
        let event = Event::new(at, EventKind::WorkflowStarted(Box::new(started)));
        self.after.started += 1;
        self.summarize = Some(expect);
        if let Some(status) = self.status_at_start() {
            self.recorded.push(event);
            self.recorded.extend(stopped_event(at, &status));
            self.after.stopped += u64::from(status.reason().is_some());
            self.after.is_held = status.reason().is_none();
            self.tell_of_stop(reply_to, &status);
            let summary = Summary { paused_with_workflow: status.reason().is_none(), status, ..summary };
            self.instance = Instance::Stopped { summary: Box::new(summary), next_turn: 0, notes: Box::default() };
            return Ok(());
        }
        self.begin(event, summary)
    }

    /// Describes the first run to its code.
    fn started(&self, start: Start) -> Started {
        Started {
            workflow: self.key.workflow.to_string(),
            id: self.key.id.to_string(),
            seed: seed_of(&start.run),
            run: start.run,
            input: start.input,
            parent: start.parent,
            reply_to: start.reply_to.map(String::from),
            tags: start.tags,
            rules: RULES,
            version: self.context.definition.newest(),
            deadline: start.timeout_ms.map(|limit| self.now.as_millis().saturating_add(limit)),
            run_timeout_ms: start.run_timeout_ms,
            retry: start.retry.or_else(|| self.context.definition.retry()),
            continued: None,
            trace: start.trace,
        }
    }

    /// Runs the code of a run for the first time.
    pub(super) fn begin(&mut self, started: Event, summary: Summary) -> Result<(), Abandoned> {
        let first = started.clone();
        self.recorded.push(started.clone());
        let trace = match &started.kind {
            EventKind::WorkflowStarted(started) => started.trace.clone(),
            _ => None,
        };
        let (span, definition) = (self.span_below(trace.as_ref()), &self.context.definition);
        let (execution, turn) = span
            .in_scope(|| code::call(self.key, "run", || Execution::start(definition, started)))
            .map_err(Abandoned::Stopped)?;
        if let Some(problem) = execution.unread_input()
            && !self.is_last_chance
        {
            return Err(Abandoned::Refused(problem));
        }
        let mut live = Live { execution, summary, next_turn: 0, notes: Notes::default() };
        live.notes.record(self.key, &live.summary.run, &first);
        self.absorb(&mut live, turn);
        self.instance = Instance::Live(Box::new(live));
        Ok(())
    }

    /// Whether what exists is the child of an earlier run of the same parent, which was started anew under its id.
    fn is_left_by_earlier_run(&self, parent: &ParentRef) -> bool {
        let Some(of) = self.summary().and_then(|summary| summary.parent.as_ref()) else { return false };
        let same = (&of.workflow, &of.id) == (&parent.workflow, &parent.id) && of.run != parent.run;
        // A start of the earlier run may come late. Where runs tell their age, the later one counts.
        let runs = [&of.run, &parent.run].map(|run| Uuid::parse_str(run).ok().filter(|run| run.get_version_num() == 7));
        let is_late = matches!(runs, [Some(existing), Some(new)] if new < existing);
        same && !is_late
    }

    /// Whether a run of this id was ever started under this name.
    pub(super) async fn has_begun(&mut self, run: &str) -> Result<bool, Abandoned> {
        let prefix = history::run_prefix(self.key, run);
        let in_this_turn = self.unit.put.iter().any(|put| put.space == HISTORY && put.key.starts_with(&prefix));
        Ok(in_this_turn || history::exists(&self.context.turn_store, self.key, run).await?)
    }

    /// Ends the present run, if it has not ended, and closes its books: what comes now belongs to the next. The summary
    /// has to allow that.
    fn make_way(&mut self) -> Result<Expect, Abandoned> {
        let expect = match &self.instance {
            Instance::Closed { version, .. } => Expect::Version(*version),
            _ => Expect::Any,
        };
        self.terminate("it was replaced by a new start of the same id");
        self.seal()?;
        if let Some(outcome) = self.after.ended.take() {
            self.after.replaced.push((outcome, std::mem::take(&mut self.after.waiters)));
        }
        Ok(expect)
    }

    pub(super) fn already_started(&mut self, start: Start) -> Result<(), Abandoned> {
        let (run, of_start) = (self.summary().map(|summary| summary.run.clone()).unwrap_or_default(), start.run);
        let taken = ReplyBody::Started { is_new: run == of_start, run };
        self.after.replies.extend(start.accepted.map(|to| (to, taken)));
        match (start.reply_to, &self.instance, &self.after.ended) {
            (Some(to), Instance::Closed { summary, .. }, _) => {
                self.after.replies.extend(summary.outcome().map(|outcome| (to, ReplyBody::Ended(outcome))));
            }
            (Some(to), _, Some(outcome)) => self.after.replies.push((to, ReplyBody::Ended(outcome.clone()))),
            // It asks again after a moment.
            (Some(to), Instance::Stopped { summary, .. }, None) if summary.status.reason().is_some() => {
                let status = summary.status.clone();
                self.tell_of_stop(Some(to), &status);
            }
            (Some(to), _, None) => self.after.waiters.push(to),
            (None, ..) => {}
        }
        Ok(())
    }

    /// Has the sender of a start told the end of the instance that is there already.
    fn tell_end(&mut self, mut start: Start) -> Result<(), Abandoned> {
        let Some(told) = start.end_signal.take() else { return Ok(()) };
        let (summary, outcome) = match &mut self.instance {
            Instance::Live(live) => (&mut live.summary, self.after.ended.clone()),
            Instance::Stopped { summary, .. } => (&mut **summary, self.after.ended.clone()),
            Instance::Closed { summary, .. } => {
                let outcome = summary.outcome();
                (&mut **summary, outcome)
            }
            Instance::Unknown | Instance::Absent => return Ok(()),
        };
        if let Some(outcome) = outcome {
            self.unit.publish.push(end_signals::message(&self.context.directory, &told, &self.key.id, &outcome)?);
        } else if !summary.end_signals.contains(&told) && summary.end_signals.len() < MOST_PARENTS {
            summary.end_signals.push(told);
            self.summarize.get_or_insert(Expect::Any);
        }
        self.already_started(start)
    }

    /// Has a parent told the outcome of the instance, which it did not start.
    fn tell_at_end(&mut self, parent: ParentRef) -> Result<(), Abandoned> {
        let run = child_run(&parent.run, parent.seq);
        let (summary, outcome) = match &mut self.instance {
            Instance::Live(live) => (&mut live.summary, self.after.ended.clone()),
            Instance::Stopped { summary, .. } => (&mut **summary, self.after.ended.clone()),
            Instance::Closed { summary, .. } => {
                let outcome = summary.outcome();
                (&mut **summary, outcome)
            }
            Instance::Unknown | Instance::Absent => return Ok(()),
        };
        let too_many =
            || Outcome::Err(Failure::new(FailureKind::Unknown, "too many parents await this instance already"));
        let full = summary.awaited_by.len() >= MOST_PARENTS;
        if let Some(outcome) = outcome.or_else(|| full.then(too_many)) {
            self.unit.publish.push(effects::child_done(&self.context.directory, &parent, &run, outcome)?);
        } else if !summary.awaited_by.contains(&parent) {
            summary.awaited_by.push(parent);
            self.summarize.get_or_insert(Expect::Any);
        }
        Ok(())
    }

    /// A parent that awaits the instance as its own `run` of it does so no longer. Whether there was such a parent.
    pub(super) fn is_let_go(&mut self, run: Option<&str>) -> bool {
        let summary = match &mut self.instance {
            Instance::Live(live) => &mut live.summary,
            Instance::Stopped { summary, .. } => &mut **summary,
            _ => return false,
        };
        let known = summary.awaited_by.len();
        summary.awaited_by.retain(|parent| run != Some(&*child_run(&parent.run, parent.seq)));
        let is_let_go = summary.awaited_by.len() < known;
        if is_let_go {
            self.summarize.get_or_insert(Expect::Any);
        }
        is_let_go
    }
}

/// Whether a run ended with a result.
fn is_result(end: &EventKind) -> bool {
    matches!(end, EventKind::WorkflowCompleted { .. })
}
