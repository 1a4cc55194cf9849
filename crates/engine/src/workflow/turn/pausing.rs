//! How instances are paused by hand, and go on.

use partitura_broker::Expect;
use partitura_workflow::{Event, EventKind, Payload};

use super::{Abandoned, Turn};
use crate::wire::summary::Status;
use crate::wire::{ReplyBody, Request};
use crate::workflow::instance::{Instance, Live};

impl Turn<'_> {
    /// Lets no code run from here on. Messages that arrive are kept.
    pub(super) fn pause(&mut self, reason: String, Request { run, reply_to, .. }: Request) -> Result<(), Abandoned> {
        let body = match self.receives(run.as_deref()) {
            Ok(()) => {
                self.pause_now(reason, false);
                ReplyBody::Accepted
            }
            Err(body) => body,
        };
        self.tell(reply_to, body);
        Ok(())
    }

    /// Pauses the instance, by hand or with its workflow.
    pub(super) fn pause_now(&mut self, reason: String, with_workflow: bool) {
        let (mut summary, next_turn, notes) = match std::mem::replace(&mut self.instance, Instance::Unknown) {
            Instance::Live(live) => {
                let Live { summary, next_turn, notes, .. } = *live;
                (Box::new(summary), next_turn, Box::new(notes))
            }
            Instance::Stopped { summary, next_turn, notes } => (summary, next_turn, notes),
            other => {
                self.instance = other;
                return;
            }
        };
        if summary.status.reason().is_some() {
            self.mark_stopped(false);
        }
        let at = self.now.as_millis().max(notes.latest);
        self.recorded.push(Event::new(at, EventKind::WorkflowPaused { reason: reason.clone() }));
        summary.status = Status::Paused { reason };
        summary.paused_with_workflow = with_workflow;
        self.after.is_held = with_workflow;
        self.summarize.get_or_insert(Expect::Any);
        self.instance = Instance::Stopped { summary, next_turn, notes };
    }

    /// Lets the code of a paused or stopped instance run, from its history.
    pub(super) async fn go_on(
        &mut self,
        reason: Option<String>,
        Request { run, reply_to, .. }: Request,
    ) -> Result<(), Abandoned> {
        let body = match self.receives(run.as_deref()) {
            Ok(()) => {
                if let (Some(reason), Instance::Stopped { .. }, None) = (reason, &self.instance, &self.inert) {
                    self.note_intervention("resume", reason);
                }
                self.resume().await?;
                ReplyBody::Accepted
            }
            Err(body) => body,
        };
        self.tell(reply_to, body);
        Ok(())
    }

    /// Gives an open task a result by hand. Its attempts are told that they are not wanted.
    pub(super) fn skip(
        &mut self,
        seq: u32,
        result: Payload,
        reason: String,
        Request { run, reply_to, .. }: Request,
    ) -> Result<(), Abandoned> {
        let body = match self.receives(run.as_deref()) {
            Ok(()) => {
                let run = self.summary().map(|summary| summary.run.clone()).unwrap_or_default();
                if self.open_task(&run, seq).is_some() {
                    self.note_intervention(format!("skip task {seq}"), reason);
                    self.input(Some(&run), EventKind::TaskCompleted { seq, result })?;
                    self.cancel_task(&run, seq);
                    ReplyBody::Accepted
                } else {
                    ReplyBody::Refused(format!("{} has no open task {seq}", self.key))
                }
            }
            Err(body) => body,
        };
        self.tell(reply_to, body);
        Ok(())
    }

    /// Lets an open timer fire by hand. The message that would have done it ends when it comes.
    pub(super) fn fire_timer(
        &mut self,
        seq: u32,
        reason: String,
        Request { run, reply_to, .. }: Request,
    ) -> Result<(), Abandoned> {
        let body = match self.receives(run.as_deref()) {
            Ok(()) if self.is_timer_open(seq) => {
                self.note_intervention(format!("fire timer {seq}"), reason);
                self.input(None, EventKind::TimerFired { seq })?;
                ReplyBody::Accepted
            }
            Ok(()) => ReplyBody::Refused(format!("{} has no open timer {seq}", self.key)),
            Err(body) => body,
        };
        self.tell(reply_to, body);
        Ok(())
    }

    fn is_timer_open(&self, seq: u32) -> bool {
        let is_its_start = |event: &Event| matches!(event.kind, EventKind::TimerStarted { seq: of, .. } if of == seq);
        match &self.instance {
            // The timers of this turn are not among the notes yet.
            Instance::Live(live) => {
                live.execution.is_open(seq) && (live.notes.has_timer(seq) || self.recorded.iter().any(is_its_start))
            }
            Instance::Stopped { notes, .. } => notes.has_timer(seq),
            _ => false,
        }
    }

    /// Records that somebody has acted on the instance by hand.
    pub(super) fn note_intervention(&mut self, action: impl Into<String>, reason: String) {
        let noted = EventKind::Intervened { action: action.into(), reason };
        self.recorded.push(Event::new(self.moment(), noted));
    }
}
