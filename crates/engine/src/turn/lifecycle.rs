//! How instances begin, stop, go on and are ended.

use partitura_broker::{Expect, Timestamp};
use partitura_workflow::{Event, EventKind, Execution, Failure, FailureKind, Started};
use uuid::Uuid;

use super::{Abandoned, Context, Instance, Turn, write};
use crate::instance::{Live, Notes, beginning};
use crate::names::InstanceKey;
use crate::summary::{Status, Summary};
use crate::wire::{Command, Outcome, ReplyBody, Start, StartPolicy};
use crate::{effects, history};

impl<'a> Turn<'a> {
    pub(super) async fn start(&mut self, start: Start) -> Result<(), Abandoned> {
        let existing = self.summary().map(|summary| (summary.run.clone(), summary.status.is_closed()));
        let expect = match existing {
            None => Expect::Absent,
            Some((run, _)) if run == start.run => return self.already_started(start),
            Some((run, closed)) => match (start.policy, &start.parent) {
                (StartPolicy::UseExisting, _) => return self.already_started(start),
                (StartPolicy::Reject, Some(parent)) => {
                    let message = format!("{} exists already; a child needs an id of its own", self.key);
                    let outcome = Outcome::Err(Failure::new(FailureKind::Unknown, message));
                    self.unit.publish.push(effects::child_done(&self.context.directory, parent, &start.run, outcome)?);
                    return Ok(());
                }
                (StartPolicy::Reject, None) => {
                    self.replies.extend(start.accepted.map(|to| (to, ReplyBody::Rejected { run })));
                    return Ok(());
                }
                (StartPolicy::Replace, _) => {
                    if !closed {
                        self.terminate("it was replaced by a new start of the same id")?;
                        self.seal()?;
                        self.replaced = self.ended.take().map(|outcome| (outcome, std::mem::take(&mut self.waiters)));
                    }
                    match &self.instance {
                        Instance::Closed { version, .. } => Expect::Version(*version),
                        _ => Expect::Any,
                    }
                }
            },
        };
        let started = Started {
            workflow: self.key.workflow.to_string(),
            id: self.key.id.to_string(),
            seed: Uuid::parse_str(&start.run).unwrap_or_default().as_u64_pair().1,
            run: start.run.clone(),
            input: start.input,
            parent: start.parent,
            reply_to: start.reply_to.map(String::from),
            tags: start.tags,
        };
        self.replies.extend(start.accepted.map(|to| (to, ReplyBody::Accepted)));
        let at = self.now.as_millis();
        let summary = beginning(&started, at);
        let event = Event::new(at, EventKind::WorkflowStarted(Box::new(started)));
        self.summarize = Some(expect);
        self.recorded.push(event.clone());
        if let Some(status) = &self.inert {
            let summary = Summary { status: status.clone(), ..summary };
            self.instance = Instance::Stopped { summary: Box::new(summary), next_turn: 0 };
            return Ok(());
        }
        let (execution, turn) = Execution::start(&self.context.definition, event).map_err(Abandoned::Stopped)?;
        let mut live = Live { execution, summary, next_turn: 0, notes: Notes::default() };
        self.absorb(&mut live, turn);
        self.instance = Instance::Live(Box::new(live));
        Ok(())
    }

    pub(super) fn already_started(&mut self, start: Start) -> Result<(), Abandoned> {
        self.replies.extend(start.accepted.map(|to| (to, ReplyBody::Accepted)));
        match (start.reply_to, &self.instance, &self.ended) {
            (Some(to), Instance::Closed { summary, .. }, _) => {
                self.replies.extend(summary.outcome().map(|outcome| (to, ReplyBody::Ended(outcome))));
            }
            (Some(to), _, Some(outcome)) => self.replies.push((to, ReplyBody::Ended(outcome.clone()))),
            (Some(to), _, None) => self.waiters.push(to),
            (None, ..) => {}
        }
        Ok(())
    }

    pub(super) fn terminate(&mut self, reason: &str) -> Result<(), Abandoned> {
        let failure = Failure::new(FailureKind::Terminated, reason);
        let event = Event::new(self.now.as_millis(), EventKind::WorkflowFailed { failure });
        match std::mem::replace(&mut self.instance, Instance::Unknown) {
            Instance::Live(mut live) if !live.summary.status.is_closed() => {
                self.end(&mut live, &event);
                self.recorded.push(event);
                self.instance = Instance::Live(live);
            }
            Instance::Stopped { mut summary, next_turn } => {
                summary.close(event.at, &event.kind);
                self.ended = Outcome::of_end(&event.kind);
                self.summarize = Some(Expect::Any);
                write(&mut self.unit, history::mark_stopped(self.key, false));
                // Without live code there are no effects of its end, but whoever started it as a child still waits.
                if let (Some(parent), Some(outcome)) = (&summary.parent, &self.ended) {
                    let done = effects::child_done(&self.context.directory, parent, &summary.run, outcome.clone())?;
                    self.unit.publish.push(done);
                }
                self.recorded.push(event);
                self.instance = Instance::Stopped { summary, next_turn };
            }
            other => self.instance = other,
        }
        Ok(())
    }

    pub(super) async fn resume(&mut self) -> Result<(), Abandoned> {
        let Instance::Stopped { summary, .. } = &self.instance else { return Ok(()) };
        let mut summary = (**summary).clone();
        summary.status = Status::Running;
        self.seal()?;
        let live = self.replay(summary).await?;
        self.instance = Instance::Live(Box::new(live));
        self.summarize = Some(Expect::Any);
        write(&mut self.unit, history::mark_stopped(self.key, false));
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
        match history::summary(&context.journal, key).await? {
            None => {}
            Some((version, summary)) if summary.status.is_closed() => {
                turn.instance = Instance::Closed { summary: Box::new(summary), version };
            }
            Some((_, summary)) => {
                let (_, next_turn) = history::load(&context.journal, key, &summary.run).await?;
                turn.instance = Instance::Stopped { summary: Box::new(Summary { status, ..summary }), next_turn };
                turn.summarize = Some(Expect::Any);
            }
        }
        if !matches!(command, Command::Resume) {
            turn.handle(command, message_id).await?;
        }
        let still = turn.summary().is_some_and(|summary| matches!(summary.status, Status::Stopped { .. }));
        write(&mut turn.unit, history::mark_stopped(key, still));
        Ok(turn)
    }
}
