//! The first work of a new owner of a partition.

use partitura_broker::{Partition, Result};
use tokio::sync::oneshot;

use super::WorkflowRunner;
use crate::pause::Pause;
use crate::storage::{history, index};
use crate::wire::{self, Command};

/// How many stopped instances are asked to go on at a time.
const RESUMED: usize = 100;

impl WorkflowRunner {
    /// Sends what earlier owners of a partition decided to send: nothing may overtake it. Then has the stopped
    /// instances of the partition try again, for the code of this process may be the repaired one.
    pub(super) async fn take_over(&self, partition: Partition, term: u64, recovered: oneshot::Sender<()>) {
        if let Some(outbox) = self.0.context.turn_store.outbox() {
            let recover = || outbox.recover(partition);
            if self.insist(partition, term, "reading the outbox of a partition", recover).await.is_none() {
                return;
            }
        }
        // Perhaps nobody waits.
        let _ = recovered.send(());
        if partition == Partition::default() {
            let turn_store = &self.0.context.turn_store;
            let bring_up = || index::bring_up(turn_store, &self.0.workflow);
            if self.insist(partition, term, "writing how instances are found", bring_up).await.is_none() {
                return;
            }
        }
        let mut after = None;
        loop {
            let resume = || self.resume_stopped(partition, after.as_deref());
            match self.insist(partition, term, "asking stopped instances to go on", resume).await {
                Some(Some(last)) => after = Some(last),
                _ => return,
            }
        }
    }

    /// Does something until it succeeds. `None`: the partition went elsewhere before.
    pub(super) async fn insist<T, F: Future<Output = Result<T>>>(
        &self,
        partition: Partition,
        term: u64,
        what: &str,
        attempt: impl Fn() -> F,
    ) -> Option<T> {
        let mut pause = Pause::new();
        while self.live().term(partition) == term {
            match attempt().await {
                Ok(done) => return Some(done),
                Err(error) => tracing::warn!(%partition, %error, ?pause, "{what} again"),
            }
            pause.wait().await;
        }
        None
    }

    /// Asks a page of stopped instances behind the id `after` to go on, and gives the last id of the page, unless there
    /// are no more. Those that this very code has tried already are left to their own next attempt.
    async fn resume_stopped(&self, partition: Partition, after: Option<&str>) -> Result<Option<String>> {
        let context = &self.0.context;
        let stopped = history::stopped(&context.turn_store, (&self.0.workflow, partition), after, RESUMED).await?;
        let other_code = stopped.iter().filter(|(_, tried_by)| **tried_by != *context.code.as_bytes());
        let resume = |(id, _): &(String, _)| {
            let (payloads, fresh) = (context.directory.payloads(), context.ids.fresh().to_string());
            wire::command(payloads, &context.topics.commands, id, fresh, &Command::Resume)
        };
        let resumed = other_code.map(resume).collect::<Vec<_>>();
        if !resumed.is_empty() {
            for error in self.0.producer.publish(resumed).await.into_iter().filter_map(Result::err) {
                if error.is_retryable() {
                    return Err(error);
                }
                // They try again by themselves.
                tracing::warn!(workflow = &*self.0.workflow, %error, "a stopped instance was not asked to go on");
            }
        }
        Ok(stopped.into_iter().nth(RESUMED - 1).map(|(id, _)| id))
    }
}
