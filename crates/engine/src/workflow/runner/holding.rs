//! Whether the workflow is paused, and instances that were paused with it as it was resumed.

use partitura_broker::Result;
use partitura_lanes::Outcome;

use super::WorkflowRunner;
use crate::pause::Pause;
use crate::wire::names::InstanceKey;
use crate::wire::{self, Command};

/// How often an instance is asked to go on that was paused too late, before that is left to what comes next for it.
const TRIALS: u32 = 10;

impl WorkflowRunner {
    /// Why the workflow is paused, if it is.
    pub(super) async fn held(&self) -> Option<String> {
        self.0.context.pauses.of_workflow(&self.0.workflow).await
    }

    /// As [`held`](Self::held), by what is stored now. A request to go on does not come again, so that it must not be
    /// refused for a pause that has ended, because the store could not be read lately.
    pub(super) async fn held_now(&self) -> std::result::Result<Option<String>, Outcome> {
        let stored = self.0.context.pauses.of_workflow_now(&self.0.workflow).await;
        stored.map_err(|error| Outcome::retry(error.to_string()))
    }

    /// A turn has paused an instance with its workflow. The resume of the workflow asks the instances that are paused
    /// then: if that was before this turn was committed, this one is asked here.
    pub(super) fn look_after_held(&self, key: &InstanceKey) {
        let (runner, key) = (self.clone(), key.clone());
        tokio::spawn(async move {
            let mut pause = Pause::new();
            for _ in 0..TRIALS {
                match runner.resume_if_not_held(&key).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::debug!(instance = %key, %error, "looking again whether its workflow is paused")
                    }
                }
                pause.wait().await;
            }
        });
    }

    async fn resume_if_not_held(&self, key: &InstanceKey) -> Result<()> {
        let context = &self.0.context;
        if context.pauses.of_workflow_now(&self.0.workflow).await?.is_some() {
            return Ok(());
        }
        let (payloads, fresh) = (context.directory.payloads(), context.ids.fresh().to_string());
        let resume = wire::command(payloads, &context.topics.commands, &key.id, fresh, &Command::Resume);
        self.0.producer.publish(vec![resume]).await.into_iter().collect::<Result<Vec<_>>>().map(drop)
    }
}
