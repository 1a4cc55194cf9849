//! Updates: each is applied once, and answered as often as it is asked for.

use partitura_workflow::{Event, EventKind, Payload, UpdateRefusal};

use super::{Abandoned, Turn};
use crate::code;
use crate::storage::history;
use crate::storage::turn_store::HISTORY;
use crate::wire::summary::Status;
use crate::wire::{Outcome, ReplyBody, ReplyTo, Request, Start, StartPolicy, StartUpdate};
use crate::workflow::instance::Instance;
use crate::workflow::update_waiters::UpdateWaiter;

impl Turn<'_> {
    /// Applies an update, unless it was applied before, and tells its result. `sent_as` is the id of the message that
    /// carried it.
    pub(super) async fn update(
        &mut self,
        name: String,
        args: Payload,
        Request { id, run, reply_to }: Request,
        sent_as: &str,
    ) -> Result<(), Abandoned> {
        let id = id.unwrap_or_else(|| sent_as.to_owned());
        let body = match self.receives(run.as_deref()) {
            Ok(()) => self.update_open((name, args), id, reply_to.as_ref()).await?,
            Err(ReplyBody::Closed { run }) => self.known_answer(&run, &id).await?.or(Some(ReplyBody::Closed { run })),
            Err(body) => Some(body),
        };
        if let Some(body) = body {
            self.tell(reply_to, body);
        }
        Ok(())
    }

    /// Starts the instance or takes the one that is there, and updates it in the same turn.
    pub(super) async fn start_with_update(&mut self, start: Start, update: StartUpdate) -> Result<(), Abandoned> {
        let (run, policy) = (start.run.clone(), start.policy);
        let StartUpdate { name, args, id, reply_to } = update;
        // A copy of a start whose run was replaced since: the update was there, and is not for this one.
        let is_copy = match self.summary() {
            Some(summary) if !summary.is_run(&run) => self.has_begun(&run).await?,
            _ => false,
        };
        if is_copy {
            let body = self.known_answer(&run, &id).await?.or(Some(ReplyBody::Closed { run }));
            self.after.replies.extend(body.map(|body| (reply_to, body)));
            return Ok(());
        }
        self.start_or_take(start).await?;
        self.continue_as_new()?;
        match self.summary() {
            Some(summary) if policy == StartPolicy::Reject && !summary.is_run(&run) => {
                let body = ReplyBody::Rejected { run: summary.run.clone() };
                self.after.replies.push((reply_to, body));
                Ok(())
            }
            _ => {
                self.update(name, args, Request { id: Some(id.clone()), run: None, reply_to: Some(reply_to) }, &id)
                    .await
            }
        }
    }

    /// Updates an instance that has not ended. `None`: nothing can be said yet, and its sender asks again.
    async fn update_open(
        &mut self,
        (name, args): (String, Payload),
        id: String,
        reply_to: Option<&ReplyTo>,
    ) -> Result<Option<ReplyBody>, Abandoned> {
        let live = match &self.instance {
            Instance::Live(live) => live,
            Instance::Stopped { summary, .. } => {
                let reason = match &summary.status {
                    Status::Paused { reason } => format!("it is paused: {reason}"),
                    status => status.reason().unwrap_or_default().to_owned(),
                };
                let run = summary.run.clone();
                return Ok(self.known_answer(&run, &id).await?.or(Some(ReplyBody::Stopped { reason })));
            }
            Instance::Unknown | Instance::Absent | Instance::Closed { .. } => return Ok(Some(ReplyBody::NotFound)),
        };
        if let Some(run) = live.execution.had_update(&id).map(str::to_owned) {
            if live.execution.is_update_open(&id) {
                return Ok(self.answer_later(run, id, reply_to));
            }
            if !self.is_stored(&run) {
                return Ok(None);
            }
            let known = self.known_answer(&run, &id).await?;
            let gone = || format!("{}: the update {id} was applied, and its result is not kept any more", self.key);
            return Ok(known.or_else(|| Some(ReplyBody::Refused(gone()))));
        }
        match code::call(self.key, format!("validator of update {name}"), || live.execution.check_update(&name, &args))
        {
            Ok(()) => {}
            Err(UpdateRefusal::Invalid(failure)) => return Ok(Some(ReplyBody::Invalid(failure))),
            Err(refusal) => {
                return Ok(Some(ReplyBody::Refused(format!("{refusal}; this is build {}", self.context.build))));
            }
        }
        match self.input(None, EventKind::UpdateReceived { name, args, id: id.clone() }) {
            Ok(()) => match answer_in(&self.recorded, &id) {
                Some(answer) => Ok(Some(answer)),
                // Its handler waits.
                None => {
                    let run = self.summary().map(|summary| summary.run.clone()).unwrap_or_default();
                    Ok(self.answer_later(run, id, reply_to))
                }
            },
            Err(Abandoned::Refused(problem)) => Ok(Some(ReplyBody::Refused(problem))),
            Err(abandoned) => Err(abandoned),
        }
    }

    /// The handler of the update has begun, and has not ended.
    fn answer_later(&mut self, run: String, id: String, reply_to: Option<&ReplyTo>) -> Option<ReplyBody> {
        let waiter = |to: &ReplyTo| UpdateWaiter { run, id, to: to.clone() };
        self.after.update_waiters.extend(reply_to.map(waiter));
        Some(ReplyBody::Accepted)
    }

    /// Gives the answer to an update that this run has had, or one before it.
    async fn known_answer(&mut self, run: &str, id: &str) -> Result<Option<ReplyBody>, Abandoned> {
        let mut events = history::load(&self.context.turn_store, self.key, run).await?.events;
        if self.summary().is_some_and(|summary| summary.run == run) {
            events.extend(self.recorded.iter().cloned());
        }
        if let Some(answer) = answer_of_run(&events, run, id) {
            return Ok(Some(answer));
        }
        let Some(EventKind::WorkflowStarted(started)) = events.first().map(|event| &event.kind) else {
            return Ok(None);
        };
        let earlier =
            started.continued.as_ref().and_then(|before| before.updates.iter().find(|update| update.id == id));
        let Some(earlier) = earlier else { return Ok(None) };
        let events = history::load(&self.context.turn_store, self.key, &earlier.run).await?.events;
        Ok(answer_of_run(&events, &earlier.run, id))
    }

    /// Whether all that a run has had is stored, or recorded in this turn as that of the present run.
    fn is_stored(&self, run: &str) -> bool {
        let prefix = history::run_prefix(self.key, run);
        !self.unit.put.iter().any(|put| put.space == HISTORY && put.key.starts_with(&prefix))
    }
}

/// Finds the answer to an update among these events.
fn answer_in(events: &[Event], of: &str) -> Option<ReplyBody> {
    let outcome = events.iter().rev().find_map(|event| match &event.kind {
        EventKind::UpdateCompleted { id, result } if id == of => Some(Outcome::Ok(result.clone())),
        EventKind::UpdateFailed { id, failure } if id == of => Some(Outcome::Err(failure.clone())),
        _ => None,
    });
    outcome.map(ReplyBody::Updated)
}

/// Finds the answer to an update among all events of a run. One that was open when the run ended has no other answer.
fn answer_of_run(events: &[Event], run: &str, of: &str) -> Option<ReplyBody> {
    let is_received = |event: &Event| matches!(&event.kind, EventKind::UpdateReceived { id, .. } if id == of);
    let is_interrupted = || events.iter().any(|event| event.kind.is_end()) && events.iter().any(is_received);
    answer_in(events, of).or_else(|| is_interrupted().then(|| ReplyBody::Interrupted { run: run.to_owned() }))
}
