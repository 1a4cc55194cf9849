//! The layers around turns.

use partitura_lanes::{Batch, Outcome};

use super::WorkflowRunner;
use crate::layer::{TurnCall, TurnResult};
use crate::wire::names::InstanceKey;

impl WorkflowRunner {
    /// Takes a turn inside of all layers.
    pub(super) async fn layered_turn(&self, key: &InstanceKey, batch: &Batch) -> Outcome {
        let layers = &self.0.context.layers;
        if layers.is_empty() {
            return self.turn(key, batch.deliveries(), batch.attempt()).await;
        }
        let mut outcome = None;
        let call = TurnCall {
            workflow: &key.workflow,
            id: &key.id,
            commands: batch.deliveries().len(),
            attempt: batch.attempt(),
        };
        let taken = async {
            let ended = self.turn(key, batch.deliveries(), batch.attempt()).await;
            let result = result(&ended);
            outcome = Some(ended);
            result
        };
        let layered = layers.turn(&call, taken).await;
        let not_taken = || Outcome::retry(layered.err().unwrap_or_else(|| "a layer did not take the turn".to_owned()));
        outcome.unwrap_or_else(not_taken)
    }
}

fn result(outcome: &Outcome) -> TurnResult {
    match outcome {
        Outcome::Done | Outcome::Settled => Ok(()),
        Outcome::Retry { reason, .. } | Outcome::Dead { reason, .. } => Err(reason.clone()),
        _ => Err("another worker has taken over the partition".to_owned()),
    }
}
