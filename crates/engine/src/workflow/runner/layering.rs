//! The layers around turns.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt;
use partitura_lanes::{Batch, Outcome};

use super::WorkflowRunner;
use crate::layer::{TurnCall, TurnResult};
use crate::wire::names::InstanceKey;

impl WorkflowRunner {
    /// Takes a turn inside of all layers.
    pub(super) async fn layered_turn(&self, key: &InstanceKey, batch: &Batch, term: u64) -> Outcome {
        let layers = &self.0.context.layers;
        if layers.is_empty() {
            return self.turn(key, batch.deliveries(), batch.attempt(), term).await;
        }
        let call = TurnCall {
            workflow: &key.workflow,
            id: &key.id,
            commands: batch.deliveries().len(),
            attempt: batch.attempt(),
        };
        let turn = Box::pin(self.turn(key, batch.deliveries(), batch.attempt(), term));
        let mut turn = AssertUnwindSafe(turn).catch_unwind();
        let (mut has_begun, mut ended) = (false, None);
        let taken = async {
            has_begun = true;
            ended = Some((&mut turn).await);
            match &ended {
                Some(Ok(outcome)) => result(outcome),
                _ => Err("it panicked".to_owned()),
            }
        };
        let layered = AssertUnwindSafe(layers.turn(&call, taken)).catch_unwind().await;
        // A commit is followed by its messages: the turn is not left between the two.
        if has_begun && ended.is_none() {
            ended = Some(turn.await);
        }
        match (ended, layered) {
            (Some(Ok(outcome)), layered) => {
                if layered.is_err() {
                    tracing::error!(instance = %key, "a layer panicked around a turn, which was taken all the same");
                }
                outcome
            }
            (Some(Err(panic)), _) | (None, Err(panic)) => resume_unwind(panic),
            (None, Ok(Err(reason))) => Outcome::retry(reason),
            (None, Ok(Ok(()))) => Outcome::retry("a layer did not take the turn"),
        }
    }
}

fn result(outcome: &Outcome) -> TurnResult {
    match outcome {
        Outcome::Done | Outcome::Settled => Ok(()),
        Outcome::Retry { reason, .. } | Outcome::Dead { reason, .. } => Err(reason.clone()),
        _ => Err("another worker has taken over the partition".to_owned()),
    }
}
