//! Repairs of one instance by hand, without its Rust type. Its history keeps the reason of each.

use partitura_workflow::{EventKind, Payload};
use serde::Serialize;

use super::connection::{answer_of, unexpected_of};
use super::instance::InstanceHandle;
use crate::error::ClientError;
use crate::wire::find::InstanceName;
use crate::wire::names::check_id;
use crate::wire::{Command, ReplyBody, Request as Terms, Reset};

impl InstanceHandle {
    /// Lets the instance go on from an earlier event of its latest run, with today's code, and gives the run that does:
    /// the first `events` events are kept, the numbers of which [`history`](Self::history) gives. It may have ended
    /// meanwhile.
    ///
    /// * The present run ends as one that [continues as new](partitura_workflow::Cx::continue_as_new): who awaits the
    ///   result gets that of the new run. A parent that has heard of an end already keeps to that.
    /// * Tasks and steps that were open at the event are asked for anew, with new idempotency keys and their whole
    ///   time-outs. Work that was done after the event is done again if the code asks for it: nothing is undone.
    /// * Timers keep their moments. Open children are started anew; those of the present run make way for them.
    /// * Signals that came after the event are given to the new run at once; updates, which were answered, are not.
    /// * The new run has no time-out.
    ///
    /// # Errors
    /// [`Refused`](ClientError::Refused) when today's code does not go on from there, and nothing has changed then;
    /// [`NotFound`](ClientError::NotFound); [`NoAnswer`](ClientError::NoAnswer) when no worker runs the workflow; those
    /// of the broker and of the store.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not take effect.
    pub async fn reset(&self, events: usize, reason: impl Into<String>) -> Result<String, ClientError> {
        let run = self.summary().await?.run;
        self.reset_to((run, events), None, format!("reset to event {events}"), reason.into()).await
    }

    /// Begins an instance of another id with the first `events` events of this one's latest run, and lets today's code
    /// go on from there. This one stays as it is. As in [`reset`](Self::reset), what is open is asked for anew; signals
    /// that came later go along. The fork is nobody's child.
    ///
    /// # Errors
    /// As for [`reset`](Self::reset); [`Refused`](ClientError::Refused) when there is an instance of that id.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not take effect.
    pub async fn fork(
        &self,
        id: impl Into<String>,
        events: usize,
        reason: impl Into<String>,
    ) -> Result<Self, ClientError> {
        let (run, new_run) = (self.summary().await?.run, self.connection.fresh());
        let fork = Self::new(self.connection.clone(), InstanceName::new(&*self.name.workflow, id));
        let (action, reason) = (format!("fork of {}, event {events}", self.name.id), reason.into());
        let reset = Reset { id: Some(self.name.id.clone()), run, events, new_run, then: None, action, reason };
        fork.demand(|request| Command::Reset { reset: Box::new(reset), request }, None).await?;
        Ok(fork)
    }

    /// Gives a task this result, in place of its service. If the task is open, its attempts are told that they are not
    /// wanted. If it has failed for good, the instance is [reset](Self::reset) to before the failure, also when it has
    /// ended. The type is that of the method's result, which is not checked here; `seq` is the number of the call.
    ///
    /// # Errors
    /// [`Refused`](ClientError::Refused) when the task is neither open nor has failed; else as for
    /// [`reset`](Self::reset).
    ///
    /// # Cancel safety
    /// Dropped, it may or may not take effect.
    pub async fn skip_task(
        &self,
        seq: u32,
        result: &impl Serialize,
        reason: impl Into<String>,
    ) -> Result<(), ClientError> {
        let (result, reason) = (Payload::encode_unproven(result)?, reason.into());
        match self.failure(Some(seq)).await? {
            (run, Some((events, _))) => {
                let then = Some(EventKind::TaskCompleted { seq, result });
                self.reset_to((run, events), then, format!("skip task {seq}"), reason).await.map(drop)
            }
            (run, None) => self.demand(|request| Command::Skip { seq, result, reason, request }, Some(run)).await,
        }
    }

    /// Lets an open timer fire now, and not at its moment: what the code sleeps for is not to be waited for any longer.
    /// `seq` is the number of the timer, as [`Waiting::Timer`](crate::Waiting::Timer) tells it. A paused instance reads
    /// it when it goes on.
    ///
    /// # Errors
    /// [`Refused`](ClientError::Refused) when there is no open timer of this number; [`NotFound`](ClientError::NotFound),
    /// [`Ended`](ClientError::Ended); [`NoAnswer`](ClientError::NoAnswer) when no worker runs the workflow; those of the
    /// broker and of the store.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not take effect. Done again, it is refused: the timer has fired.
    pub async fn fire_timer(&self, seq: u32, reason: impl Into<String>) -> Result<(), ClientError> {
        let (run, reason) = (self.summary().await?.run, reason.into());
        self.demand(|request| Command::FireTimer { seq, reason, request }, Some(run)).await
    }

    /// Runs a task again that has failed for good: that of this number, or the last that has failed. The instance is
    /// [reset](Self::reset) to before the failure, also when it has ended. The effects of its code upon the failure are
    /// not undone: compensations that have run, say.
    ///
    /// # Errors
    /// [`Refused`](ClientError::Refused) when no such task has failed; else as for [`reset`](Self::reset).
    ///
    /// # Cancel safety
    /// Dropped, it may or may not take effect.
    pub async fn retry_task(&self, seq: Option<u32>, reason: impl Into<String>) -> Result<(), ClientError> {
        let (run, Some((events, seq))) = self.failure(seq).await? else {
            return Err(ClientError::Refused(format!("{}: no such task has failed", self.name)));
        };
        self.reset_to((run, events), None, format!("retry task {seq}"), reason.into()).await.map(drop)
    }

    /// Gives the last task that has failed for good a result.
    pub(super) async fn skip_failed_task(&self, result: Payload, reason: &str) -> Result<(), ClientError> {
        let (run, Some((events, seq))) = self.failure(None).await? else {
            return Err(ClientError::Refused(format!("{}: no task has failed", self.name)));
        };
        let then = Some(EventKind::TaskCompleted { seq, result });
        self.reset_to((run, events), then, format!("skip task {seq}"), reason.to_owned()).await.map(drop)
    }

    /// The latest run, and the event with which a task of it has failed.
    async fn failure(&self, task: Option<u32>) -> Result<(String, Option<(usize, u32)>), ClientError> {
        let page = self.history(0, usize::MAX).await?;
        let failed = page.events.iter().enumerate().rev().find_map(|(index, event)| match event.kind {
            EventKind::TaskFailed { seq, .. } if task.is_none_or(|task| task == seq) => Some((index, seq)),
            _ => None,
        });
        Ok((page.run, failed))
    }

    async fn reset_to(
        &self,
        (run, events): (String, usize),
        then: Option<EventKind>,
        action: String,
        reason: String,
    ) -> Result<String, ClientError> {
        let new_run = self.connection.fresh();
        let reset = Reset { id: None, run: run.clone(), events, new_run: new_run.clone(), then, action, reason };
        self.demand(|request| Command::Reset { reset: Box::new(reset), request }, Some(run)).await?;
        Ok(new_run)
    }

    /// Sends a command, and waits until it is taken.
    async fn demand(&self, command: impl FnOnce(Terms) -> Command, run: Option<String>) -> Result<(), ClientError> {
        check_id(&self.name.id).map_err(ClientError::InvalidId)?;
        let (connection, instance) = (&self.connection, (&*self.name.workflow, &*self.name.id));
        let (reply_to, reply) = connection.mailbox.request();
        let command = command(Terms { run, reply_to: Some(reply_to), ..Terms::default() });
        connection.send_to(instance, connection.fresh(), &command).await?;
        match answer_of(instance.0, reply).await? {
            ReplyBody::Accepted => Ok(()),
            other => Err(unexpected_of(instance, other)),
        }
    }
}
