//! The effect of each command on an instance.

use std::borrow::Cow;

use partitura_broker::Timestamp;
use partitura_workflow::{Event, EventKind, Failure, FailureKind, Stop, StopReason};
use tracing::Span;

use super::signs::Attempt;
use super::{Abandoned, Reading, Turn};
use crate::code;
use crate::wire::summary::Status;
use crate::wire::{Command, Later, Outcome, StartPolicy};
use crate::workflow::effects::{self, Moment};
use crate::workflow::instance::{Instance, Purpose};
use crate::workflow::steps;

impl Turn<'_> {
    /// Handles one command. `message_id` is that of the message that carried it.
    pub(crate) async fn handle(&mut self, command: Command, message_id: &str) -> Result<(), Abandoned> {
        self.forget_inert();
        if !self.hold(&command).await? {
            return Ok(());
        }
        if matches!(self.instance, Instance::Unknown) {
            match &command {
                // It is not due yet, and concerns no instance.
                Command::Start(start) if start.later.is_some() => {}
                Command::Start(start) if start.policy == StartPolicy::Replace => self.load(Reading::Inert).await?,
                // A new instance is the usual case; where it is not, the commit conflicts and the turn is taken again.
                Command::Start(_) if self.optimistic => self.instance = Instance::Absent,
                Command::Terminate { .. }
                | Command::RunExpired { later: None, .. }
                | Command::Expire { .. }
                | Command::Pause { .. }
                | Command::Reset { .. }
                | Command::Delete { .. } => {
                    self.load(Reading::Inert).await?;
                }
                // A question about an instance whose workflow is paused runs no code of it.
                _ if self.held.is_some() && command.asker().is_some() => self.load(Reading::Inert).await?,
                _ => self.load(Reading::Live).await?,
            }
        }
        self.end_hold(&command).await?;
        // The code sees the time at which it runs, not that before the instance was read.
        self.now = self.context.clock.now_rounded_up();
        self.apply(command, message_id).await?;
        self.continue_as_new()
    }

    async fn apply(&mut self, command: Command, message_id: &str) -> Result<(), Abandoned> {
        match command {
            Command::Start(start) if start.later.is_some() => self.start_later(*start),
            Command::Start(start) => self.start(*start).await,
            Command::RunExpired { run, later } => self.time_out(&run, later).await,
            Command::Signal { name, payload, request } => self.signal(name, payload, request, message_id).await,
            Command::Update { name, args, request } => self.update(name, args, request, message_id).await,
            Command::Cancel { reason, request } => self.cancel(reason, request).await,
            Command::Terminate { reason, request } => {
                self.terminate_for(&reason, request);
                Ok(())
            }
            Command::StepDone { run, seq, outcome } => {
                // Should the turn fail, the result comes again.
                self.context.steps.is_done(&(run.clone(), seq));
                self.input(Some(&run), step_event(seq, outcome))
            }
            Command::TaskDone { run, seq, attempts, outcome, completion: None } => {
                self.input(Some(&run), task_event(seq, attempts, outcome))
            }
            Command::TaskDone { run, seq, attempts, outcome, completion: Some(completion) } => {
                self.complete(Attempt { run: &run, seq, attempt: attempts }, outcome, completion.reply_to).await
            }
            Command::TaskDelegated { request, due, details } => self.delegated(*request, due, details),
            Command::ChildDone { run, seq, outcome } => self.input(Some(&run), child_event(seq, outcome)),
            Command::TaskUnstarted { run, seq, later: None } => self.not_started(&run, seq),
            Command::TaskExpired { run, seq, later: None } => self.task_expired(&run, seq),
            Command::TimerDue { run, seq, later: None } => self.input(Some(&run), EventKind::TimerFired { seq }),
            Command::TaskUnstarted { run, seq, later: Some(later) } => {
                self.wait_again(&run, seq, Purpose::TaskStart, later)
            }
            Command::TaskExpired { run, seq, later: Some(later) } => {
                self.wait_again(&run, seq, Purpose::TaskExpiry, later)
            }
            Command::TimerDue { run, seq, later: Some(later) } => self.wait_again(&run, seq, Purpose::Timer, later),
            Command::StepOverdue { run, seq, asked } => self.look_after_step(&run, seq, asked).await,
            Command::Heartbeat { run, seq, attempt, details, by_token: true, reply_to, .. } => {
                self.heartbeat_by_token(Attempt { run: &run, seq, attempt }, details, reply_to).await
            }
            Command::Heartbeat { run, seq, attempt, details, alive, held_up, by_token: false, reply_to } => {
                self.heartbeat(Attempt { run: &run, seq, attempt }, (details, alive, held_up), reply_to)
            }
            Command::HeartbeatDue { run, seq, due } => self.heartbeat_due((&run, seq), due, message_id),
            Command::AttemptFailed { request, retry_at, details, .. } => {
                self.next_attempt(*request, Timestamp::from_millis(retry_at), details, message_id)
            }
            Command::StepAlive { run, seq } => {
                self.context.steps.is_alive((run, seq));
                Ok(())
            }
            Command::Undelivered { run, reason } => self.undelivered(&run, reason),
            Command::Resume if self.is_paused() => Ok(()),
            Command::Resume => self.resume().await,
            Command::Pause { reason, request } => self.pause(reason, request),
            Command::Reset { reset, request } => self.reset(*reset, request).await,
            Command::Skip { seq, result, reason, request } => self.skip(seq, result, reason, request),
            Command::FireTimer { seq, reason, request } => self.fire_timer(seq, reason, request),
            Command::GoOn { reason, request } => self.go_on(reason, request).await,
            Command::Expire { run, due } => self.expire(&run, due).await,
            Command::Delete { request } => self.delete(request).await,
            Command::TryAgain { run, tried } => self.repeat(&run, tried).await,
            Command::Query { .. }
            | Command::Await { .. }
            | Command::Describe { .. }
            | Command::History { .. }
            | Command::List { .. } => self.answer(command).await,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.summary().is_some_and(|summary| matches!(summary.status, Status::Paused { .. }))
    }

    fn task_expired(&mut self, run: &str, seq: u32) -> Result<(), Abandoned> {
        let failure = Failure::new(FailureKind::TimedOut, "no result within the overall time-out");
        self.input(Some(run), EventKind::TaskFailed { seq, failure, attempts: 0 })
    }

    fn undelivered(&mut self, run: &str, reason: String) -> Result<(), Abandoned> {
        match self.summary() {
            Some(summary) if summary.run == run && !summary.status.is_closed() => Err(Abandoned::Undelivered(reason)),
            // It has ended, or is deleted: there is nothing to stop, and others wait for its last words.
            _ => self.send_again_later(run, 0),
        }
    }

    async fn repeat(&mut self, run: &str, tried: u32) -> Result<(), Abandoned> {
        match self.summary() {
            Some(summary) if summary.run == run && self.is_paused() => Ok(()),
            Some(summary) if summary.run == run && !summary.status.is_closed() => self.resume().await,
            _ => match self.send_what_was_set_aside().await {
                Err(Abandoned::Undelivered(_)) => self.send_again_later(run, tried + 1),
                sent => sent,
            },
        }
    }

    /// Applies an input, if it is for this run and the instance is open.
    pub(super) fn input(&mut self, run: Option<&str>, kind: EventKind) -> Result<(), Abandoned> {
        let event = Event::new(self.moment(), kind);
        let span = match &self.instance {
            Instance::Live(_) => self.span(),
            _ => Span::none(),
        };
        match &mut self.instance {
            Instance::Unknown | Instance::Absent | Instance::Closed { .. } => Ok(()),
            Instance::Stopped { summary, notes, .. } => {
                if run.is_none_or(|run| run == summary.run) && !summary.status.is_closed() {
                    notes.record(self.key, &summary.run, &event);
                    self.recorded.push(event);
                }
                Ok(())
            }
            Instance::Live(live) => {
                if run.is_some_and(|run| run != live.summary.run) || live.summary.status.is_closed() {
                    return Ok(());
                }
                self.context.history_limits.check(self.key, &live.notes).map_err(Abandoned::Stopped)?;
                let apply = || live.execution.apply(event.clone());
                let turn = match span.in_scope(|| code::call(self.key, code_of(&event), apply)) {
                    Ok(turn) => turn,
                    // It was not applied, and the instance is as before.
                    Err(Stop { reason: StopReason::BadInput { problem }, .. }) => {
                        return Err(Abandoned::Refused(problem));
                    }
                    Err(stop) => return Err(Abandoned::Stopped(stop)),
                };
                if let Some(problem) = live.execution.unread_result()
                    && !self.is_last_chance
                {
                    return Err(Abandoned::Unread(problem));
                }
                if turn.ignored {
                    return Ok(());
                }
                let Instance::Live(mut live) = std::mem::replace(&mut self.instance, Instance::Unknown) else {
                    return Ok(());
                };
                live.notes.record(self.key, &live.summary.run, &event);
                self.recorded.push(event);
                self.absorb(&mut live, turn);
                self.instance = Instance::Live(live);
                Ok(())
            }
        }
    }

    /// An instance that was read to be ended, and was not, is read again for what comes next.
    fn forget_inert(&mut self) {
        let is_running =
            matches!(&self.instance, Instance::Stopped { summary, .. } if summary.status == Status::Running);
        if is_running && self.inert.is_none() {
            self.instance = Instance::Unknown;
        }
    }

    /// The broker's longest delay is over, and the moment has not come.
    fn wait_again(&mut self, run: &str, seq: u32, purpose: Purpose, later: Later) -> Result<(), Abandoned> {
        let wanted = match &self.instance {
            Instance::Live(live) => live.summary.run == run && live.execution.is_open(seq),
            // It is not known before the code runs again.
            Instance::Stopped { summary, .. } => summary.run == run && !summary.status.is_closed(),
            Instance::Unknown | Instance::Absent | Instance::Closed { .. } => false,
        };
        if wanted {
            let moment = Moment { purpose, seq, due: Timestamp::from_millis(later.due), waits: later.waits };
            self.unit.publish.push(effects::wait(&self.context.directory, self.key, run, moment, self.now)?);
        }
        Ok(())
    }

    /// Sees to it that a step without a result is run, and looks again later.
    async fn look_after_step(&mut self, run: &str, seq: u32, asked: u32) -> Result<(), Abandoned> {
        let wanted = match &self.instance {
            Instance::Live(live) => live.summary.run == run && live.execution.is_open(seq),
            // It is not known before the code runs again.
            Instance::Stopped { summary, .. } => summary.run == run && !summary.status.is_closed(),
            Instance::Unknown | Instance::Absent | Instance::Closed { .. } => false,
        };
        if !wanted {
            return Ok(());
        }
        let step = (run.to_owned(), seq);
        let mut wait = self.context.steps.wait_for(&step, self.ours_since);
        // The changes of this batch are not in the store yet: next time.
        let is_live =
            matches!(self.instance, Instance::Live(_)) && self.recorded.is_empty() && self.after.steps.is_empty();
        if wait.is_zero() && is_live {
            tracing::info!(instance = %self.key, seq, "a step was lost with its process and runs again");
            self.load(Reading::Step(seq)).await?;
        }
        if wait.is_zero() {
            wait = steps::OVERDUE_AFTER;
        }
        let again = effects::step_overdue(&self.context.directory, self.key, run, (seq, asked + 1), self.now + wait)?;
        self.unit.publish.push(again);
        Ok(())
    }
}

/// The code that an input runs first.
fn code_of(input: &Event) -> Cow<'static, str> {
    match &input.kind {
        EventKind::SignalReceived { name, .. } => format!("signal {name}").into(),
        EventKind::UpdateReceived { name, .. } => format!("update {name}").into(),
        _ => "run".into(),
    }
}

pub(super) fn task_event(seq: u32, attempts: u32, outcome: Outcome) -> EventKind {
    match outcome {
        Outcome::Ok(result) => EventKind::TaskCompleted { seq, result },
        Outcome::Err(failure) => EventKind::TaskFailed { seq, failure, attempts },
    }
}

fn child_event(seq: u32, outcome: Outcome) -> EventKind {
    match outcome {
        Outcome::Ok(result) => EventKind::ChildCompleted { seq, result },
        Outcome::Err(failure) => EventKind::ChildFailed { seq, failure },
    }
}

fn step_event(seq: u32, outcome: Outcome) -> EventKind {
    match outcome {
        Outcome::Ok(result) => EventKind::StepCompleted { seq, result },
        Outcome::Err(failure) => EventKind::StepFailed { seq, failure },
    }
}
