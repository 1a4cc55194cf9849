//! Takes back delayed messages that no workflow needs any more, where the broker can.
//!
//! Nobody waits for it and nothing rests on it: a message that was not taken back comes when it is due, and is ignored.
//! On other brokers all of them do.

use std::sync::Arc;

use partitura_broker::{Broker, Delayed, Producer};
use tokio::sync::mpsc;

/// How many are cancelled at once.
const AT_ONCE: usize = 500;
/// How many may wait for that. A message for which there is no room is left to come.
const WAITING: usize = 10_000;

/// The way to a task that cancels in batches. It ends with the runner of the workflow.
#[derive(Debug)]
pub(crate) struct DelayCancellation(Option<mpsc::Sender<Delayed>>);

impl DelayCancellation {
    pub(crate) fn new(broker: &dyn Broker, producer: &Arc<dyn Producer>) -> Self {
        if !broker.capabilities().supports.cancellation {
            return Self(None);
        }
        let (sender, waiting) = mpsc::channel(WAITING);
        tokio::spawn(cancel(producer.clone(), waiting));
        Self(Some(sender))
    }

    /// Whether the broker can.
    pub(crate) fn is_possible(&self) -> bool {
        self.0.is_some()
    }

    /// Does not wait.
    pub(crate) fn cancel(&self, delayed: Vec<Delayed>) {
        let Some(sender) = &self.0 else { return };
        for delayed in delayed {
            if let Err(error) = sender.try_send(delayed) {
                tracing::debug!(%error, "a delayed message that nobody needs is left to come");
                return;
            }
        }
    }
}

async fn cancel(producer: Arc<dyn Producer>, mut waiting: mpsc::Receiver<Delayed>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, AT_ONCE).await > 0 {
        let answers = producer.cancel(std::mem::take(&mut batch)).await;
        for error in answers.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "a delayed message that nobody needs was not cancelled; it comes and is ignored");
        }
    }
}
