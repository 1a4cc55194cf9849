//! Tasks whose results come from outside, by their tokens.

use partitura_workflow::{EventKind, Payload};

use super::commands::task_event;
use super::signs::Attempt;
use super::{Abandoned, Turn};
use crate::storage::heartbeats::{Beat, Delegated};
use crate::storage::history;
use crate::wire::token::TokenRefusal;
use crate::wire::{Outcome, ReplyBody, ReplyTo, TaskRequest};

impl Turn<'_> {
    /// Takes note that an attempt has ended without a result, and watches over its time-outs from now on.
    pub(super) fn delegated(
        &mut self,
        request: TaskRequest,
        due: Option<u64>,
        details: Option<Payload>,
    ) -> Result<(), Abandoned> {
        let (run, seq, attempt, now) = (request.run.clone(), request.seq, request.attempt, self.now);
        let Some(notes) = self.open_task(&run, seq) else { return Ok(()) };
        let mut beat = notes.beats().get(&seq).cloned().unwrap_or_else(|| Beat::first(attempt, now));
        if beat.attempt > attempt {
            return Ok(());
        }
        notes.watch(request);
        beat.delegated = Some(Delegated { attempt, due });
        self.note_beat(Attempt { run: &run, seq, attempt }, beat, details)
    }

    /// Applies a result from outside, if the task has none yet and the token is that of its latest attempt.
    pub(super) async fn complete(
        &mut self,
        of: Attempt<'_>,
        outcome: Outcome,
        reply_to: Option<ReplyTo>,
    ) -> Result<(), Abandoned> {
        let body = match self.refusal(of).await? {
            Some(refusal) => refusal,
            None => match self.input(Some(of.run), task_event(of.seq, of.attempt, outcome)) {
                Ok(()) => ReplyBody::Accepted,
                Err(Abandoned::Refused(problem)) if reply_to.is_some() => ReplyBody::Refused(problem),
                Err(abandoned) => return Err(abandoned),
            },
        };
        self.tell(reply_to, body);
        Ok(())
    }

    /// Takes note of a sign of life from outside.
    pub(super) async fn heartbeat_by_token(
        &mut self,
        of: Attempt<'_>,
        details: Option<Payload>,
        reply_to: ReplyTo,
    ) -> Result<(), Abandoned> {
        let refusal = self.refusal(of).await?;
        let is_refused = refusal.is_some();
        self.tell(Some(reply_to), refusal.unwrap_or(ReplyBody::Accepted));
        let now = self.now;
        match self.open_task(of.run, of.seq).filter(|_| !is_refused) {
            Some(notes) => {
                let beat = notes.beats().get(&of.seq).cloned();
                self.note_beat(of, beat.unwrap_or_else(|| Beat::first(of.attempt, now)), details)
            }
            None => Ok(()),
        }
    }

    /// Why a token has no effect; `None`: it has one.
    async fn refusal(&mut self, of: Attempt<'_>) -> Result<Option<ReplyBody>, Abandoned> {
        let Some(summary) = self.summary() else { return Ok(Some(ReplyBody::NotFound)) };
        let (run, is_closed) = (summary.run.clone(), summary.status.is_closed());
        if self.is_task_open(of.run, of.seq) {
            let latest = self.open_task(of.run, of.seq).and_then(|notes| notes.attempt_of(of.seq));
            let superseded = latest.filter(|latest| *latest > of.attempt);
            return Ok(superseded.map(|latest| ReplyBody::TokenRefused(TokenRefusal::Superseded { latest })));
        }
        Ok(Some(match self.fate(of, &run).await? {
            TokenRefusal::Unknown if run != of.run => ReplyBody::AnotherRun { run },
            TokenRefusal::Unknown if is_closed => ReplyBody::Closed { run },
            refusal => ReplyBody::TokenRefused(refusal),
        }))
    }

    /// Tells the fate of a task that is not open, as far as the history of its run tells it.
    async fn fate(&mut self, of: Attempt<'_>, latest: &str) -> Result<TokenRefusal, Abandoned> {
        let mut events = match history::load(&self.context.turn_store, self.key, of.run).await {
            Ok(history) => history.events,
            Err(error) if error.is_retryable() => return Err(error.into()),
            // A history that cannot be read tells nothing.
            Err(_) => Vec::new(),
        };
        if latest == of.run {
            events.extend(self.recorded.iter().cloned());
        }
        let fate = events.iter().rev().find_map(|event| match event.kind {
            EventKind::TaskCompleted { seq, .. } if seq == of.seq => Some(TokenRefusal::Completed),
            EventKind::TaskFailed { seq, .. } if seq == of.seq => Some(TokenRefusal::Failed),
            EventKind::TaskCancelRequested { seq } if seq == of.seq => Some(TokenRefusal::Cancelled),
            _ => None,
        });
        Ok(fate.unwrap_or(TokenRefusal::Unknown))
    }
}
