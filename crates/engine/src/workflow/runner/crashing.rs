//! Turns that may end their process.

use bytes::Bytes;
use partitura_broker::Delivery;
use partitura_lanes::{Batch, Outcome, Trials};

use super::{Work, WorkflowRunner, failed};
use crate::storage::crashes::NotRun;
use crate::storage::outbox::may_have_come_before;
use crate::wire::names::InstanceKey;
use crate::workflow::turn::lifecycle::Until;

impl WorkflowRunner {
    /// Whether an earlier owner of the partition may have begun the turn. It may have held twice as many commands.
    pub(super) fn may_have_begun(&self, batch: &Batch) -> bool {
        let most = self.0.concurrency.get().saturating_mul(2);
        let partition = batch.iter().find(|delivery| may_have_come_before(delivery)).map(|delivery| delivery.partition);
        partition.is_some_and(|partition| self.live().may_have_begun(partition, batch.len(), most))
    }

    /// Takes a turn that may have been begun before, in a process that was lost. With too many crashes the instance
    /// stops.
    pub(super) async fn turn_again(&self, key: &InstanceKey, batch: &Batch, term: u64) -> Outcome {
        let deliveries = batch.deliveries();
        let [delivery] = deliveries else {
            // One by one, so that the command it is about is known.
            return Outcome::retry("to be taken one by one");
        };
        let name = name(key, delivery);
        match self.0.crashes.run(name.clone(), Box::pin(self.layered_turn(key, batch, term))).await {
            Ok(outcome) => outcome,
            Err(NotRun::NotNoted(error)) => failed(key, &error),
            Err(NotRun::GivenUp(crashes)) => {
                let (partition, term) = (delivery.partition, self.live().term(delivery.partition));
                let work = Work { deliveries, attempt: batch.attempt(), partition, term };
                let reason = format!(
                    "workflow {key} stopped: {}, in a turn with the command {}\n  mend the code, and resume the instance",
                    Trials::reason(crashes),
                    delivery.message.id
                );
                let outcome = self.stop_until(key, work, reason, Until::Resumed).await;
                if matches!(outcome, Outcome::Done | Outcome::Settled) {
                    self.0.crashes.forget(name);
                }
                outcome
            }
        }
    }
}

fn name(key: &InstanceKey, delivery: &Delivery) -> Bytes {
    [b"turn\0", &key.stored()[..], b"\0", delivery.message.id.as_str().as_bytes()].concat().into()
}
