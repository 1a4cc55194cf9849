//! How instances begin, stop, go on and are ended.

use partitura_broker::{Expect, Message, Timestamp, partition_of};
use partitura_workflow::{Event, EventKind, Execution, Failure, FailureKind, ParentRef, RULES, Started};
use uuid::Uuid;

use super::context::Context;
use super::seal::write;
use super::{Abandoned, Known, Reading, Turn, code, known};
use crate::storage::history;
use crate::storage::turn_store::HISTORY;
use crate::wire::names::{InstanceKey, child_run};
use crate::wire::summary::{Status, Summary};
use crate::wire::{self, Command, Outcome, ReplyBody, ReplyTo, Start, StartPolicy, TaskRequest};
use crate::workflow::effects;
use crate::workflow::instance::{Instance, Live, Notes, beginning};

/// How many parents may await an instance that they did not start.
const MOST_PARENTS: usize = 1_000;

impl<'a> Turn<'a> {
    pub(super) async fn start(&mut self, start: Start) -> Result<(), Abandoned> {
        let existing = self.summary().map(|summary| summary.run.clone());
        let expect = match existing {
            None => Expect::Absent,
            Some(run) if run == start.run => return self.already_started(start),
            // A copy of a start whose run was replaced since.
            Some(_) if start.policy != StartPolicy::UseExisting && self.has_begun(&start.run).await? => {
                return self.already_started(start);
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
            },
        };
        let reply_to = start.reply_to.clone();
        let started = Started {
            workflow: self.key.workflow.to_string(),
            id: self.key.id.to_string(),
            seed: Uuid::parse_str(&start.run).unwrap_or_default().as_u64_pair().1,
            run: start.run.clone(),
            input: start.input,
            parent: start.parent,
            reply_to: start.reply_to.map(String::from),
            tags: start.tags,
            rules: RULES,
            continued: None,
        };
        self.after.replies.extend(start.accepted.map(|to| (to, ReplyBody::Accepted)));
        let at = self.now.as_millis();
        let summary = beginning(&started, at);
        let event = Event::new(at, EventKind::WorkflowStarted(Box::new(started)));
        self.summarize = Some(expect);
        if let Some(status) = self.inert.clone() {
            self.recorded.push(event);
            self.recorded.extend(stopped_event(at, &status));
            self.tell_of_stop(reply_to, &status);
            let summary = Summary { status, ..summary };
            self.instance = Instance::Stopped { summary: Box::new(summary), next_turn: 0, notes: Box::default() };
            return Ok(());
        }
        self.begin(event, summary)
    }

    /// Runs the code of a run for the first time.
    pub(super) fn begin(&mut self, started: Event, summary: Summary) -> Result<(), Abandoned> {
        self.recorded.push(started.clone());
        let (execution, turn) = code::call(self.key, "run", || Execution::start(&self.context.definition, started))
            .map_err(Abandoned::Stopped)?;
        if let Some(problem) = execution.unread_input()
            && !self.is_last_chance
        {
            return Err(Abandoned::Refused(problem));
        }
        let mut live = Live { execution, summary, next_turn: 0, notes: Notes::default() };
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
    async fn has_begun(&mut self, run: &str) -> Result<bool, Abandoned> {
        let prefix = history::run_prefix(self.key, run);
        let in_this_turn = self.unit.put.iter().any(|put| put.space == HISTORY && put.key.starts_with(&prefix));
        Ok(in_this_turn || history::exists(&self.context.turn_store, self.key, run).await?)
    }

    /// Ends the present run, if it has not ended, and closes its books: what comes now belongs to the next. What the
    /// summary has to be for that.
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
        self.after.replies.extend(start.accepted.map(|to| (to, ReplyBody::Accepted)));
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

    /// Tells those who wait from the start that the instance cannot go on.
    fn tell_of_stop(&mut self, to: Option<ReplyTo>, status: &Status) {
        if let (Some(to), Some(reason)) = (to, status.reason()) {
            self.after.replies.push((to, ReplyBody::Stopped { reason: reason.to_owned() }));
        }
    }

    /// Ends the instance, if there is one that has not ended.
    pub(super) fn terminate(&mut self, reason: &str) {
        let failure = Failure::new(FailureKind::Terminated, reason);
        let event = Event::new(self.moment(), EventKind::WorkflowFailed { failure });
        match std::mem::replace(&mut self.instance, Instance::Unknown) {
            Instance::Live(mut live) if !live.summary.status.is_closed() => {
                self.end(&mut live, &event);
                self.recorded.push(event);
                self.instance = Instance::Live(live);
            }
            Instance::Stopped { mut summary, next_turn, notes } if !summary.status.is_closed() => {
                summary.close(event.at, &event.kind);
                self.after.dropped_steps.push((summary.run.clone(), None));
                self.after.ended = Outcome::of_end(&event.kind);
                self.summarize = Some(Expect::Any);
                self.mark_stopped(false);
                self.recorded.push(event);
                self.instance = Instance::Stopped { summary, next_turn, notes };
            }
            other => self.instance = other,
        }
    }

    /// Runs the code of a stopped instance again, from its history, once what the broker has refused of it is sent.
    pub(super) async fn resume(&mut self) -> Result<(), Abandoned> {
        self.send_what_was_set_aside().await?;
        let summary = match &self.instance {
            Instance::Stopped { summary, .. } if !summary.status.is_closed() => (**summary).clone(),
            _ => return Ok(()),
        };
        let live = self.replay(Summary { status: Status::Running, ..summary }, Reading::Live).await?;
        if let Some(EventKind::WorkflowResumed { refused }) = self
            .recorded
            .iter()
            .rev()
            .map(|event| &event.kind)
            .find(|kind| matches!(kind, EventKind::WorkflowResumed { .. }))
            && !refused.is_empty()
        {
            tracing::warn!(instance = %self.key, ?refused, "signals that came while it was stopped cannot be read");
        }
        if let Some(problem) = live.execution.unread_result()
            && !self.is_last_chance
        {
            return Err(Abandoned::Unread(problem));
        }
        self.instance = Instance::Live(Box::new(live));
        self.summarize = Some(Expect::Any);
        self.mark_stopped(false);
        Ok(())
    }

    /// Sends what the broker has refused, except for tasks of runs that have ended.
    pub(super) async fn send_what_was_set_aside(&mut self) -> Result<(), Abandoned> {
        let Some(outbox) = self.context.turn_store.outbox() else { return Ok(()) };
        let open = self.summary().filter(|summary| !summary.status.is_closed()).map(|summary| summary.run.clone());
        let wanted = move |message: &Message| match wire::decode::<TaskRequest>(&message.payload) {
            Ok(task) => task.detached || open.as_ref() == Some(&task.run),
            Err(_) => true,
        };
        match outbox.send_set_aside(self.key, wanted).await? {
            None => Ok(()),
            Some(problem) => {
                Err(Abandoned::Undelivered(format!("the broker still does not take what is set aside: {problem}")))
            }
        }
    }

    /// Has what was set aside of a run that has ended sent again by itself, when it was tried so often before.
    pub(super) fn send_again_later(&mut self, tried: u32) -> Result<(), Abandoned> {
        let Some(run) = self.summary().map(|summary| summary.run.clone()) else { return Ok(()) };
        // No turn has this number.
        let again = effects::try_again(&self.context.directory, self.key, &run, (u32::MAX, tried), self.now)?;
        self.unit.publish.push(again);
        Ok(())
    }

    /// The turn of an instance whose code cannot go on: the input is kept, no code runs. It goes on from there once it is
    /// repaired.
    pub(crate) async fn stopped(
        context: &'a Context,
        key: &'a InstanceKey,
        now: Timestamp,
        (command, message_id): (Command, &str),
        reason: String,
    ) -> Result<Self, Abandoned> {
        let status = Status::Stopped { reason };
        let mut turn = Self::new(context, key, now, Instance::Absent);
        turn.inert = Some(status.clone());
        let mut before = None;
        match history::summary(&context.turn_store, key).await? {
            None => {}
            Some((version, summary)) if summary.status.is_closed() => {
                turn.instance = Instance::Closed { summary: Box::new(summary), version };
            }
            Some((_, summary)) => {
                if matches!(summary.status, Status::Stopped { .. }) {
                    before = Some(summary.run.clone());
                }
                // A stopped instance that is tried again without success leaves no trace of that.
                turn.summarize = (summary.status != status).then_some(Expect::Any);
                let Known { notes, next_turn, .. } = known(context, key, &summary.run).await?;
                if before.is_none() {
                    turn.after.stops = status.reason().map(str::to_owned);
                    turn.tell_of_stop(notes.reply_to.clone(), &status);
                    turn.recorded.extend(stopped_event(now.as_millis().max(notes.latest), &status));
                }
                let summary = Box::new(Summary { status, ..summary });
                turn.instance = Instance::Stopped { summary, next_turn, notes };
            }
        }
        let tried = match &command {
            Command::TryAgain { run, tried } => Some((run.clone(), tried + 1)),
            _ => None,
        };
        let in_vain = matches!(command, Command::Resume | Command::TryAgain { .. });
        if !in_vain && !matches!(command, Command::Undelivered { .. }) {
            turn.handle(command, message_id).await?;
        }
        turn.try_again(before, tried, in_vain)?;
        Ok(turn)
    }

    /// Notes that this code has tried the instance without success, or that it is no longer stopped.
    fn mark_stopped(&mut self, stopped: bool) {
        let partition = partition_of(self.key.id.as_bytes(), self.context.directory.partitions());
        let by = stopped.then_some(&*self.context.code);
        write(&mut self.unit, history::mark_stopped(self.key, partition, by));
    }

    /// Notes whether the instance is stopped, and has it try again later: as a new attempt of one that was `tried` so
    /// often, as the first of one that was not stopped `before`.
    fn try_again(
        &mut self,
        before: Option<String>,
        tried: Option<(String, u32)>,
        in_vain: bool,
    ) -> Result<(), Abandoned> {
        let after = match &self.instance {
            Instance::Stopped { summary, next_turn, .. } if !summary.status.is_closed() => {
                Some((summary.run.clone(), *next_turn))
            }
            _ => None,
        };
        let unchanged = before.as_ref() == after.as_ref().map(|(run, _)| run);
        if !unchanged || (in_vain && after.is_some()) {
            self.mark_stopped(after.is_some());
        }
        let Some((run, turn)) = after else { return Ok(()) };
        let tried = match tried {
            Some((of, tried)) if of == run => tried,
            // Its next attempt is on its way already.
            _ if unchanged => return Ok(()),
            _ => 0,
        };
        let again = effects::try_again(&self.context.directory, self.key, &run, (turn, tried), self.now)?;
        self.unit.publish.push(again);
        Ok(())
    }
}

/// What the history says of a stop.
fn stopped_event(at: u64, status: &Status) -> Option<Event> {
    let reason = status.reason()?.to_owned();
    Some(Event::new(at, EventKind::WorkflowStopped { reason }))
}
