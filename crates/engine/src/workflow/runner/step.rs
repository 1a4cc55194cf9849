//! Runs the inline steps of instances.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::ErrorKind;
use partitura_workflow::{Failure, FailureKind, Step};
use tokio::time::{Instant, interval_at};

use super::WorkflowRunner;
use crate::code::{self, Named};
use crate::storage::turn_store::is_unsendable;
use crate::wire::names::InstanceKey;
use crate::wire::{self, Command, Outcome as Ended};
use crate::workflow::steps::{SIGN_OF_LIFE, StepId};

impl WorkflowRunner {
    /// Runs an inline step, and sends its result as a message of the instance's own stream.
    pub(super) fn run_step(&self, key: &InstanceKey, run: String, step: Step) {
        let (runner, key, id) = (self.clone(), key.clone(), (run, step.seq));
        self.0.context.steps.begin(id.clone(), || async move {
            // One that waits for its turn is not lost either.
            let named = Arc::new(Named(key.clone(), format!("step {}", step.name)));
            let in_turn = async {
                let permit = runner.0.context.steps.permits.clone().acquire_owned().await;
                (permit, code::beside(named, step.future).await)
            };
            let (_permit, result) = runner.while_alive(&key, &id, in_turn).await;
            let outcome = match result {
                Ok(result) => Ended::Ok(result),
                Err(failure) => Ended::Err(failure),
            };
            runner.step_done(&key, &id.0, id.1, outcome).await;
            runner.0.context.steps.end(id);
        });
    }

    /// Awaits a step, and tells the instance's owner now and then that it still runs: the owner may be another by then.
    async fn while_alive<T>(&self, key: &InstanceKey, (run, seq): &StepId, step: impl Future<Output = T>) -> T {
        let mut step = pin!(step);
        let mut signs = interval_at(Instant::now() + SIGN_OF_LIFE, SIGN_OF_LIFE);
        for sign in 1.. {
            tokio::select! {
                biased;
                ended = &mut step => return ended,
                _ = signs.tick() => {}
            }
            let payloads = self.0.context.directory.payloads();
            let alive = Command::StepAlive { run: run.clone(), seq: *seq };
            let message = wire::command(
                payloads,
                &self.0.context.topics.commands,
                &key.id,
                format!("{run}.{seq}.l{sign}"),
                &alive,
            );
            tokio::select! {
                biased;
                ended = &mut step => return ended,
                results = self.0.producer.publish(vec![message]) => {
                    if let Some(error) = results.into_iter().find_map(Result::err) {
                        tracing::warn!(instance = %key, seq, %error, "a sign of life of a step was not sent");
                    }
                }
            }
        }
        step.await
    }

    /// Sends the result of a step until it is taken. Should this process die first, the step runs again: see
    /// [`steps`](crate::workflow::steps).
    async fn step_done(&self, key: &InstanceKey, run: &str, seq: u32, outcome: Ended) {
        let message = |outcome| {
            let done = Command::StepDone { run: run.to_owned(), seq, outcome };
            let (payloads, topic) = (self.0.context.directory.payloads(), &self.0.context.topics.commands);
            wire::command(payloads, topic, &key.id, format!("{run}.{seq}.r"), &done)
        };
        let mut done = message(outcome);
        let mut told = false;
        let mut wait = Duration::from_millis(100);
        while let Some(Err(error)) = self.0.producer.publish(vec![done.clone()]).await.pop() {
            if is_unsendable(&error) && !told {
                // It would be no other if the step ran again: the workflow is told that instead.
                let problem = format!("the step ended, but the broker refuses what it returned: {error}");
                done = message(Ended::Err(Failure::new(FailureKind::Unknown, problem)));
                told = true;
                continue;
            }
            if error.kind() == ErrorKind::Closed || is_unsendable(&error) {
                tracing::error!(instance = %key, seq, %error, "the result of a step is lost; the step runs again");
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(10));
        }
    }
}
