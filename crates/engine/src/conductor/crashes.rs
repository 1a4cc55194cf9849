//! Commands with which the process ends: how often is kept in the store, for the commands of a workflow cannot be put back.

use bytes::Bytes;
use partitura_broker::{Delivery, Expect, Put, Result, Space};
use partitura_lanes::{Batch, Outcome};

use super::{Conductor, failed};
use crate::names::InstanceKey;
use crate::wire;

/// `workflow NUL id NUL message id` → how often the process ended while the command ran alone.
const CRASHES: Space = "crashes";

impl Conductor {
    /// Takes a turn that may end the process. Nothing else that may is run beside it.
    pub(super) async fn try_alone(&self, key: &InstanceKey, batch: &Batch) -> Outcome {
        let ([delivery], limit) = (batch.deliveries(), self.0.crashes) else {
            return Outcome::retry("to be taken one by one");
        };
        if limit == 0 {
            return self.turn(key, batch.deliveries(), batch.attempt()).await;
        }
        let row = row(key, delivery);
        let before = match self.crashes_before(&row).await {
            Ok(before) => before,
            Err(error) => return failed(key, &error),
        };
        // One was delivered before it was counted.
        let crashes = before.saturating_add(1);
        if crashes >= limit.max(2) {
            tracing::error!(instance = %key, crashes, "a command is given up: the process ended each time while it ran");
            let reason = format!("its process ended {crashes} times while it ran");
            let outcome = self.refuse(delivery, reason).await;
            self.forget_crashes(row).await;
            return outcome;
        }
        if let Err(error) = self.write(row.clone(), Some(crashes)).await {
            return failed(key, &error);
        }
        let outcome = self.turn(key, batch.deliveries(), batch.attempt()).await;
        self.forget_crashes(row).await;
        outcome
    }

    async fn crashes_before(&self, row: &Bytes) -> Result<u32> {
        let found = self.0.context.journal.get(CRASHES, row.clone()).await?;
        // What cannot be read was written by a newer version, and is counted anew.
        Ok(found.and_then(|(_, value)| wire::decode(&value).ok()).unwrap_or_default())
    }

    async fn write(&self, key: Bytes, crashes: Option<u32>) -> Result<()> {
        let value = crashes.map(|crashes| wire::encode(&crashes));
        self.0.context.journal.put(Put { space: CRASHES, key, expect: Expect::Any, value }).await
    }

    async fn forget_crashes(&self, key: Bytes) {
        if let Err(error) = self.write(key, None).await {
            tracing::debug!(%error, "the crashes of a command are kept though it is done");
        }
    }
}

fn row(key: &InstanceKey, delivery: &Delivery) -> Bytes {
    [&key.stored()[..], b"\0", delivery.message.id.as_str().as_bytes()].concat().into()
}
