//! How instances are deleted that have ended.

use partitura_broker::Put;

use super::seal::write;
use super::{Abandoned, Turn};
use crate::storage::expiries::{self, Expiry};
use crate::storage::turn_store::HISTORY;
use crate::storage::{history, index};
use crate::wire::{self, Command, ReplyBody, Request};
use crate::workflow::instance::Instance;

/// How many turns of a history are deleted in one commit.
const TURNS: usize = 500;

impl Turn<'_> {
    /// Deletes a run that has ended, and the instance with it if there is no later run. A long history takes several
    /// commits, the last of which deletes the rest.
    pub(super) async fn expire(&mut self, run: &str, due: u64) -> Result<(), Abandoned> {
        let again = Command::Expire { run: run.to_owned(), due };
        if self.summary().is_some_and(|summary| summary.run == run && !summary.status.is_closed()) {
            return Ok(());
        }
        if self.is_written_now(Some(run)) {
            self.ask_again(&again);
            return Ok(());
        }
        if !self.delete_turns(Some(run), again).await? {
            self.forget_expiry(run, due);
            self.forget(Some(run));
        }
        Ok(())
    }

    /// Deletes the instance by hand, with the histories of all its runs.
    pub(super) async fn delete(&mut self, request: Request) -> Result<(), Abandoned> {
        let body = match self.deletes(request.run.as_deref()) {
            Err(body) => body,
            Ok(expires) => {
                let again = Command::Delete { request: request.clone() };
                if self.delete_turns(None, again).await? {
                    return Ok(());
                }
                if let Some((run, due)) = expires {
                    self.forget_expiry(&run, due);
                }
                self.forget(None);
                ReplyBody::Accepted
            }
        };
        self.after.replies.extend(request.reply_to.map(|to| (to, body)));
        Ok(())
    }

    /// Whether the instance may be deleted by hand, and when its latest run is deleted otherwise.
    fn deletes(&self, run: Option<&str>) -> Result<Option<(String, u64)>, ReplyBody> {
        let refused = |reason: &str| Err(ReplyBody::Refused(format!("{}: {reason}", self.key)));
        match self.summary() {
            None => Err(ReplyBody::NotFound),
            Some(summary) if run.is_some_and(|run| !summary.is_run(run)) => {
                Err(ReplyBody::AnotherRun { run: summary.run.clone() })
            }
            Some(summary) if !summary.status.is_closed() => {
                refused("it has not ended; cancel or terminate it, then delete it")
            }
            Some(_) if self.is_written_now(None) => refused("it has ended just now; delete it again in a moment"),
            Some(summary) => Ok(summary.expires_at.map(|due| (summary.run.clone(), due))),
        }
    }

    /// Whether this turn writes history of the run, or of any: that cannot be deleted in the same commit.
    fn is_written_now(&self, run: Option<&str>) -> bool {
        let prefix = history::turns_prefix(self.key, run);
        let is_written = |put: &Put| put.space == HISTORY && put.value.is_some() && put.key.starts_with(&prefix);
        let is_recorded = self.summary().is_some_and(|summary| run.is_none_or(|run| run == summary.run));
        (is_recorded && !self.recorded.is_empty()) || self.unit.put.iter().any(is_written)
    }

    /// The run needs not be deleted when its time is over.
    fn forget_expiry(&mut self, run: &str, due: u64) {
        let (partition, expiry) = (self.context.partition(self.key), Expiry::new(self.key, run, due));
        write(&mut self.unit, expiries::remove(&self.key.workflow, partition, &expiry));
    }

    /// Deletes turns, and asks for more if there may be more. Whether there may be more.
    async fn delete_turns(&mut self, run: Option<&str>, again: Command) -> Result<bool, Abandoned> {
        let (deleted, more) = history::delete_turns(&self.context.turn_store, self.key, run, TURNS).await?;
        deleted.into_iter().for_each(|put| write(&mut self.unit, put));
        if more {
            self.ask_again(&again);
        }
        Ok(more)
    }

    /// Sends the instance a command of its own, for a turn after this one.
    fn ask_again(&mut self, again: &Command) {
        let (topic, id) = (&self.context.topics.commands, self.context.ids.fresh().to_string());
        self.unit.publish.push(wire::command(self.context.directory.payloads(), topic, &self.key.id, id, again));
    }

    /// Forgets the summary, if it is of this run.
    fn forget(&mut self, run: Option<&str>) {
        if let Instance::Closed { summary, version } = &self.instance
            && run.is_none_or(|run| run == summary.run)
        {
            write(&mut self.unit, history::forget(self.key, *version));
            index::remove(&mut self.unit, summary, write);
            self.instance = Instance::Absent;
        }
    }
}
