//! How instances are deleted that have ended.

use partitura_broker::partition_of;

use super::seal::write;
use super::{Abandoned, Turn};
use crate::storage::expiries::{self, Expiry};
use crate::storage::history;
use crate::wire::{self, Command, ReplyBody, Request};
use crate::workflow::instance::Instance;

/// How many turns of a history are deleted in one commit.
const TURNS: usize = 500;

impl Turn<'_> {
    /// Deletes a run that has ended, and the instance with it if there is no later run. A long history takes several commits,
    /// the last of which deletes the rest.
    pub(super) async fn expire(&mut self, run: &str, due: u64) -> Result<(), Abandoned> {
        let is_open = self.summary().is_some_and(|summary| summary.run == run && !summary.status.is_closed());
        if is_open || self.has_recorded() {
            return Ok(());
        }
        let again = Command::Expire { run: run.to_owned(), due };
        if self.delete_turns(Some(run), again).await? {
            return Ok(());
        }
        let partition = partition_of(self.key.id.as_bytes(), self.context.directory.partitions());
        let expiry = Expiry::new(self.key, run, due);
        write(&mut self.unit, expiries::remove(&self.key.workflow, partition, &expiry));
        self.forget(Some(run));
        Ok(())
    }

    /// Deletes the instance by hand, with the histories of all its runs.
    pub(super) async fn delete(&mut self, request: Request) -> Result<(), Abandoned> {
        let body = match self.deletes(request.run.as_deref()) {
            Err(body) => body,
            Ok(()) => {
                let expires = self.summary().and_then(|summary| Some((summary.run.clone(), summary.expires_at?)));
                let again = Command::Delete { request: request.clone() };
                if self.delete_turns(None, again).await? {
                    return Ok(());
                }
                if let Some((run, due)) = expires {
                    let partition = partition_of(self.key.id.as_bytes(), self.context.directory.partitions());
                    let expiry = Expiry::new(self.key, &run, due);
                    write(&mut self.unit, expiries::remove(&self.key.workflow, partition, &expiry));
                }
                self.forget(None);
                ReplyBody::Accepted
            }
        };
        self.after.replies.extend(request.reply_to.map(|to| (to, body)));
        Ok(())
    }

    fn deletes(&self, run: Option<&str>) -> Result<(), ReplyBody> {
        let refused = |reason: &str| Err(ReplyBody::Refused(format!("{}: {reason}", self.key)));
        match self.summary() {
            None => Err(ReplyBody::NotFound),
            Some(summary) if run.is_some_and(|run| !summary.is_run(run)) => {
                Err(ReplyBody::AnotherRun { run: summary.run.clone() })
            }
            Some(summary) if !summary.status.is_closed() => {
                refused("it has not ended; cancel or terminate it, then delete it")
            }
            Some(_) if self.has_recorded() => refused("it has ended just now; delete it again in a moment"),
            Some(_) => Ok(()),
        }
    }

    /// Whether this turn has events to write: what it has begun to write cannot be deleted in the same commit.
    fn has_recorded(&self) -> bool {
        !self.recorded.is_empty() || !self.unit.put.is_empty() || self.summarize.is_some()
    }

    /// Deletes turns, and asks for more if there may be more. Whether there may be more.
    async fn delete_turns(&mut self, run: Option<&str>, again: Command) -> Result<bool, Abandoned> {
        let (deleted, more) = history::delete_turns(&self.context.turn_store, self.key, run, TURNS).await?;
        deleted.into_iter().for_each(|put| write(&mut self.unit, put));
        if more {
            let (topic, id) = (&self.context.topics.commands, self.context.ids.fresh().to_string());
            self.unit.publish.push(wire::command(topic, &self.key.id, id, &again));
        }
        Ok(more)
    }

    /// Forgets the summary, if it is of this run.
    fn forget(&mut self, run: Option<&str>) {
        if let Instance::Closed { summary, version } = &self.instance
            && run.is_none_or(|run| run == summary.run)
        {
            write(&mut self.unit, history::forget(self.key, *version));
            self.instance = Instance::Absent;
        }
    }
}
