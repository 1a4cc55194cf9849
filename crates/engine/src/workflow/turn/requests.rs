//! Signals, cancellations and terminations: what they do, and what their senders are told.

use partitura_workflow::{EventKind, FailureKind, Payload};

use super::{Abandoned, Turn};
use crate::storage::history;
use crate::wire::{ReplyBody, ReplyTo, Request};
use crate::workflow::instance::Instance;

impl Turn<'_> {
    /// Applies a signal, unless it was applied before. `sent_as` is the id of the message that carried it.
    pub(super) async fn signal(
        &mut self,
        name: String,
        payload: Payload,
        Request { id, run, reply_to }: Request,
        sent_as: &str,
    ) -> Result<(), Abandoned> {
        // Ids of senders and of messages are told apart.
        let own = id.is_some();
        let message_id = id.map_or_else(|| sent_as.to_owned(), |id| format!("id:{id}"));
        let body =
            match self.receives(run.as_deref()) {
                Ok(()) if self.has_seen(&message_id) => ReplyBody::Accepted,
                Ok(()) => match self.input(None, EventKind::SignalReceived { name, payload, message_id }) {
                    Ok(()) => ReplyBody::Accepted,
                    // Its sender is told. Without one, it becomes a dead letter.
                    Err(Abandoned::Refused(problem)) if reply_to.is_some() => ReplyBody::Refused(problem),
                    Err(abandoned) => return Err(abandoned),
                },
                Err(ReplyBody::Closed { run }) if own && reply_to.is_some() => {
                    if self.has_had(&run, &message_id).await? { ReplyBody::Accepted } else { ReplyBody::Closed { run } }
                }
                Err(body) => body,
            };
        self.tell(reply_to, body);
        Ok(())
    }

    /// Asks the code to end. The code of a stopped instance is tried at once; where it still cannot go on, the request
    /// is kept for when it does.
    pub(super) async fn cancel(
        &mut self,
        reason: Option<String>,
        Request { run, reply_to, .. }: Request,
    ) -> Result<(), Abandoned> {
        let body = match self.receives(run.as_deref()) {
            Ok(()) => {
                self.input(None, EventKind::CancelRequested { reason })?;
                let is_stopped = self.summary().is_some_and(|summary| summary.status.reason().is_some());
                if is_stopped && self.inert.is_none() {
                    self.resume().await?;
                }
                ReplyBody::Accepted
            }
            // It was awaited by a parent that did not start it, and goes on.
            Err(ReplyBody::AnotherRun { .. }) if self.is_let_go(run.as_deref()) => ReplyBody::Accepted,
            // A copy of the request that has ended it.
            Err(ReplyBody::Closed { .. })
                if self.has_ended(
                    |end| matches!(end, EventKind::WorkflowCancelled { reason: known, .. } if *known == reason),
                ) =>
            {
                ReplyBody::Accepted
            }
            Err(body) => body,
        };
        self.tell(reply_to, body);
        Ok(())
    }

    pub(super) fn terminate_for(&mut self, reason: &str, Request { run, reply_to, .. }: Request) {
        let body = match self.receives(run.as_deref()) {
            Ok(()) => {
                self.terminate(reason);
                ReplyBody::Accepted
            }
            // It was awaited by a parent that did not start it, and goes on.
            Err(ReplyBody::AnotherRun { .. }) if self.is_let_go(run.as_deref()) => ReplyBody::Accepted,
            // A copy of the request that has ended it.
            Err(ReplyBody::Closed { .. })
                if self.has_ended(|end| {
                    matches!(end, EventKind::WorkflowFailed { failure }
                    if failure.kind == FailureKind::Terminated && failure.message == reason)
                }) =>
            {
                ReplyBody::Accepted
            }
            Err(body) => body,
        };
        self.tell(reply_to, body);
    }

    pub(super) fn tell(&mut self, reply_to: Option<ReplyTo>, body: ReplyBody) {
        self.after.replies.extend(reply_to.map(|to| (to, body)));
    }

    /// Whether something for this run, or for the latest, has an effect; else what its sender is told.
    pub(super) fn receives(&self, run: Option<&str>) -> Result<(), ReplyBody> {
        match self.summary() {
            None => Err(ReplyBody::NotFound),
            Some(summary) if run.is_some_and(|run| !summary.is_run(run)) => {
                Err(ReplyBody::AnotherRun { run: summary.run.clone() })
            }
            Some(summary) if summary.status.is_closed() => Err(ReplyBody::Closed { run: summary.run.clone() }),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn has_ended(&self, so: impl FnOnce(&EventKind) -> bool) -> bool {
        self.summary().and_then(|summary| summary.end.as_ref()).is_some_and(so)
    }

    fn has_seen(&self, message_id: &str) -> bool {
        matches!(&self.instance, Instance::Live(live) if live.execution.has_seen_message(message_id))
    }

    /// Whether a run that has ended had a signal.
    async fn has_had(&mut self, run: &str, message_id: &str) -> Result<bool, Abandoned> {
        let mut events = history::load(&self.context.turn_store, self.key, run).await?.events;
        events.extend(self.recorded.iter().cloned());
        Ok(events.iter().any(
            |event| matches!(&event.kind, EventKind::SignalReceived { message_id: known, .. } if known == message_id),
        ))
    }
}
