//! Answers for an instance whose code does not come back.

use partitura_broker::{Result, Timestamp};

use super::WorkflowRunner;
use crate::code;
use crate::storage::history;
use crate::wire::names::InstanceKey;
use crate::wire::summary::HeldUp;
use crate::wire::{ReplyBody, ReplyTo};
use crate::wire::{sizes, waiting};

impl WorkflowRunner {
    /// The code of an instance that has not come back for a while.
    pub(super) fn held_up(&self, key: &InstanceKey) -> Option<HeldUp> {
        let (code, runs_for) = code::slow(key)?;
        let runs_for = u64::try_from(runs_for.as_millis()).unwrap_or(u64::MAX);
        Some(HeldUp { code: code.into_owned(), since: self.0.context.clock.now().as_millis().saturating_sub(runs_for) })
    }

    /// Describes an instance by what is stored of it.
    pub(super) async fn describe(&self, key: &InstanceKey, held_up: HeldUp, reply_to: ReplyTo) {
        let body = self.description(key, held_up).await.unwrap_or_else(|error| ReplyBody::Refused(error.to_string()));
        self.send(key, vec![(reply_to, body)]).await;
    }

    async fn description(&self, key: &InstanceKey, held_up: HeldUp) -> Result<ReplyBody> {
        let turn_store = &self.0.context.turn_store;
        let Some((_, mut summary)) = history::summary(turn_store, key).await? else {
            let HeldUp { code, since } = held_up;
            let since = Timestamp::from_millis(since);
            return Ok(ReplyBody::Refused(format!("{key} begins: its {code} has not come back since {since}")));
        };
        let events = history::load(turn_store, key, &summary.run).await?.events;
        (summary.waiting, summary.waits_for) = waiting::list(&events, None, |_| None);
        summary.held_up = Some(held_up);
        let summary = sizes::fitting(summary, sizes::page(&self.0.context.directory));
        Ok(ReplyBody::Description(Box::new(summary)))
    }
}
