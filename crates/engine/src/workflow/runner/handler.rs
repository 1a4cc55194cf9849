//! The runner as the handler of its lanes: what comes to it, and the partitions that come and go.

use futures::FutureExt;
use partitura_broker::{Delivery, Partition};
use partitura_lanes::{Batch, Handler, Outcome};
use tokio::sync::oneshot;

use super::WorkflowRunner;
use crate::code;
use crate::wire::names::InstanceKey;
use crate::wire::{self, Command};
use crate::workflow::by_instance::ByInstance;

impl Handler for WorkflowRunner {
    async fn handle(&self, batch: Batch) -> Outcome {
        let key = match batch
            .deliveries()
            .first()
            .map(|Delivery { message, .. }| InstanceKey::from_message(&self.0.workflow, message))
        {
            Some(Ok(key)) => key,
            Some(Err(problem)) => return self.refuse(&batch.deliveries()[0], problem).await,
            None => return Outcome::Done,
        };
        let Some(term) = self.live().owned_in(batch.deliveries()[0].partition) else { return Outcome::Lost };
        if self.may_have_begun(&batch) {
            return self.turn_again(&key, &batch, term).await;
        }
        self.layered_turn(&key, &batch, term).await
    }

    /// Lets a command wait for an instance whose code does not come back. Questions after it are answered.
    fn received(&self, delivery: &Delivery) {
        if code::is_any_slow()
            && let Ok(key) = InstanceKey::from_message(&self.0.workflow, &delivery.message)
            && let Some(held_up) = self.held_up(&key)
            && let Ok(Command::Describe { reply_to }) = wire::decode(&delivery.message.payload)
        {
            let runner = self.clone();
            tokio::spawn(async move { runner.describe(&key, held_up, reply_to).await });
        }
    }

    fn assigned(&self, partitions: &[Partition]) {
        for partition in partitions.iter().copied() {
            let (sender, recovered) = oneshot::channel();
            let recovers = self.0.context.turn_store.outbox().is_some();
            let (term, noted) = self.live().take_over(partition, recovers.then(|| recovered.shared()));
            let runner = self.clone();
            tokio::spawn(async move {
                runner.take_over(partition, term, sender).await;
                runner.expire(partition, term, noted).await;
            });
        }
    }

    /// The next owner would send again what is still in the outbox.
    async fn releasing(&self, partitions: &[Partition]) {
        if let Some(outbox) = self.0.context.turn_store.outbox() {
            outbox.come_to_rest(partitions).await;
        }
    }

    /// Another worker goes on with these instances; what is kept of them here gets stale.
    fn released(&self, partitions: &[Partition]) {
        let mut kept = self.live();
        partitions.iter().for_each(|partition| kept.let_go(*partition));
        forget(&mut kept.instances, partitions);
        drop(kept);
        if let Some(outbox) = self.0.context.turn_store.outbox() {
            partitions.iter().for_each(|partition| outbox.released(*partition));
        }
        forget(&mut self.waiters(), partitions);
        self.0.update_waiters.forget(partitions);
        self.0.context.listeners.forget(partitions);
    }
}

impl WorkflowRunner {
    /// Drops what runs beside turns, as a crash would.
    pub(crate) fn abandon(&self) {
        self.0.context.steps.abort();
        let partitions = self.live().owned();
        self.released(&partitions);
    }

    /// Waits until the steps that run here have ended.
    pub(crate) async fn drained(&self) {
        self.0.context.steps.drained().await;
    }
}

/// Removes what belongs to these partitions.
fn forget<T>(kept: &mut ByInstance<(Partition, T)>, partitions: &[Partition]) {
    let of =
        |(key, (partition, _)): (&InstanceKey, &(Partition, T))| partitions.contains(partition).then(|| key.clone());
    let gone: Vec<InstanceKey> = kept.iter().filter_map(of).collect();
    for key in gone {
        kept.pop(&key);
    }
}
