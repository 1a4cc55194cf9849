//! How instances stop, go on and are ended.

use partitura_broker::{Error, ErrorKind, Expect, Message, Timestamp};
use partitura_workflow::{Event, EventKind, Failure, FailureKind};

use super::context::Context;
use super::seal::write;
use super::{Abandoned, Known, Reading, Turn, known};
use crate::storage::history;
use crate::wire::names::InstanceKey;
use crate::wire::summary::{Status, Summary};
use crate::wire::{self, Command, Later, Outcome, ReplyBody, ReplyTo, TaskRequest};
use crate::workflow::effects::{self, Moment};
use crate::workflow::instance::{Instance, Purpose, RUN};

/// How an instance that stops goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// By itself: it is tried again later, and when its partition is taken over.
    TriedAgain,
    /// By hand: to try it costs a process each time.
    Resumed,
}

impl<'a> Turn<'a> {
    /// Tells those who wait from the start that the instance cannot go on.
    pub(super) fn tell_of_stop(&mut self, to: Option<ReplyTo>, status: &Status) {
        if let (Some(to), Some(reason)) = (to, status.reason()) {
            self.after.replies.push((to, ReplyBody::Stopped { reason: reason.to_owned() }));
        }
    }

    /// The time of a run is over.
    pub(super) async fn time_out(&mut self, run: &str, later: Option<Later>) -> Result<(), Abandoned> {
        if !self.summary().is_some_and(|summary| summary.run == run && !summary.status.is_closed()) {
            return Ok(());
        }
        match later {
            None => {
                let message = "it did not end within the time that its start allows";
                let failure = Failure::new(FailureKind::TimedOut, message);
                if !self.retry_timed_out(&failure).await? {
                    self.impose(failure);
                }
            }
            Some(Later { due, waits }) => {
                let due = Timestamp::from_millis(due);
                let moment = Moment { purpose: Purpose::RunExpiry, seq: RUN, due, waits };
                self.unit.publish.push(effects::wait(&self.context.directory, self.key, run, moment, self.now)?);
            }
        }
        Ok(())
    }

    /// Ends a run whose time is over, if another attempt is to follow it. Its code says what that takes over: if it
    /// cannot run, or is paused, no attempt follows.
    async fn retry_timed_out(&mut self, failure: &Failure) -> Result<bool, Abandoned> {
        if let Instance::Stopped { summary, notes, .. } = &self.instance
            && summary.status == Status::Running
            && notes.is_retried
            && self.inert.is_none()
        {
            self.load(Reading::Live).await?;
        }
        let at = self.moment();
        let Instance::Live(mut live) = std::mem::replace(&mut self.instance, Instance::Unknown) else {
            return Ok(false);
        };
        let turn = live.execution.retry_after(failure.clone(), at);
        let is_retried = turn.is_some();
        if let Some(turn) = turn {
            self.absorb(&mut live, turn);
        }
        self.instance = Instance::Live(live);
        Ok(is_retried)
    }

    /// Ends the instance, if there is one that has not ended.
    pub(super) fn terminate(&mut self, reason: &str) {
        self.impose(Failure::new(FailureKind::Terminated, reason));
    }

    /// Ends the instance without its code, if there is one that has not ended.
    fn impose(&mut self, failure: Failure) {
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
                self.after.answered.ended.push(summary.run.clone());
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
        let (summary, known) = match &self.instance {
            Instance::Stopped { summary, next_turn, .. } if !summary.status.is_closed() => {
                ((**summary).clone(), *next_turn)
            }
            _ => return Ok(()),
        };
        let history = history::load(&self.context.turn_store, self.key, &summary.run).await?;
        let running = Summary { status: Status::Running, paused_with_workflow: false, ..summary };
        let live = self.replay(running, history, Reading::Live).await?;
        if live.next_turn != known {
            // The instance in memory is from before: with the history that was read now, its turn would count.
            return Err(self.overtaken().into());
        }
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

    /// Another owner has taken a turn meanwhile: nothing is to be written, and the instance is to be read again.
    fn overtaken(&self) -> Error {
        Error::new(ErrorKind::Conflict, "take a turn", "another owner has taken a turn meanwhile").of(self.key)
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
    pub(super) fn send_again_later(&mut self, run: &str, tried: u32) -> Result<(), Abandoned> {
        // No turn has this number.
        let again = effects::try_again(&self.context.directory, self.key, run, (u32::MAX, tried), self.now)?;
        self.unit.publish.push(again);
        Ok(())
    }

    /// The turn of an instance whose code cannot go on: the input is kept, no code runs. It goes on from there once it
    /// is repaired.
    pub(crate) async fn stopped(
        context: &'a Context,
        key: &'a InstanceKey,
        (command, message_id): (Command, &str),
        (reason, until): (String, Until),
    ) -> Result<Self, Abandoned> {
        let mut status = Status::Stopped { reason };
        let mut turn = Self::new(context, key, Instance::Absent);
        turn.inert = Some(status.clone());
        if let Command::GoOn { request, .. } = &command {
            let reason = status.reason().unwrap_or_default().to_owned();
            turn.tell(request.reply_to.clone(), ReplyBody::Refused(reason));
        }
        let mut before = None;
        match history::summary(&context.turn_store, key).await? {
            None => {}
            Some((version, summary)) if summary.status.is_closed() => {
                turn.instance = Instance::Closed { summary: Box::new(summary), version };
            }
            Some((_, summary)) => {
                match &summary.status {
                    Status::Stopped { .. } => before = Some(summary.run.clone()),
                    // It stays so until somebody lets it go on.
                    Status::Paused { .. } if !matches!(command, Command::GoOn { .. }) && !summary.is_held() => {
                        status = summary.status.clone()
                    }
                    _ => {}
                }
                // A stopped instance that is tried again without success leaves no trace of that.
                turn.summarize = (summary.status != status).then_some(Expect::Any);
                let Known { notes, next_turn, has_ended } = known(context, key, &summary.run).await?;
                if has_ended {
                    // Between the two reads.
                    return Err(turn.overtaken().into());
                }
                if before.is_none() && status.reason().is_some() {
                    turn.after.stopped += 1;
                    turn.after.stops = status.reason().map(str::to_owned);
                    turn.tell_of_stop(notes.reply_to.clone(), &status);
                    turn.recorded.extend(stopped_event(turn.now.as_millis().max(notes.latest), &status));
                }
                let summary = Box::new(Summary { status, paused_with_workflow: false, ..summary });
                turn.instance = Instance::Stopped { summary, next_turn, notes };
            }
        }
        let tried = match &command {
            Command::TryAgain { run, tried } => Some((run.clone(), tried + 1)),
            _ => None,
        };
        let in_vain = matches!(command, Command::Resume | Command::GoOn { .. } | Command::TryAgain { .. });
        if !in_vain && !matches!(command, Command::Undelivered { .. }) {
            turn.handle(command, message_id).await?;
        }
        match until {
            Until::TriedAgain => turn.try_again(before, tried, in_vain)?,
            Until::Resumed => turn.mark_stopped(false),
        }
        Ok(turn)
    }

    /// Notes that this code has tried the instance without success, or that it is no longer stopped.
    pub(super) fn mark_stopped(&mut self, stopped: bool) {
        let partition = self.context.partition(self.key);
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
            Instance::Stopped { summary, next_turn, .. } if summary.status.reason().is_some() => {
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

/// Gives the event of a stop or a pause.
pub(super) fn stopped_event(at: u64, status: &Status) -> Option<Event> {
    let kind = match status {
        Status::Stopped { reason } => EventKind::WorkflowStopped { reason: reason.clone() },
        Status::Paused { reason } => EventKind::WorkflowPaused { reason: reason.clone() },
        _ => return None,
    };
    Some(Event::new(at, kind))
}
