use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{
    Delayed, Error, ErrorKind, InboxAddress, Message, Producer, ProducerOptions, Receipt, Result, telemetry,
};
use tokio::sync::{Semaphore, oneshot};
use tracing::Instrument;

use crate::client::{Client, answered};
use crate::core::SYSTEM;
use crate::delay::Cancellation;
use crate::error;
use crate::inbox::deliver;
use crate::request::{Prepared, Request, Work};

/// The weight of a cancellation.
const CANCELLATION: usize = 64;

/// Publishes. See [`Producer`] for what it promises.
pub(crate) struct EmbeddedProducer {
    client: Arc<Client>,
    window: Arc<Semaphore>,
    size: u32,
    confirm_within: Duration,
}

impl EmbeddedProducer {
    pub(crate) fn new(client: Arc<Client>, options: &ProducerOptions) -> Self {
        let size = options.window.get().min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let window = Arc::new(Semaphore::new(size));
        Self { client, window, size: size as u32, confirm_within: options.confirm_within }
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let core = self.client.core();
        let count = batch.len();
        let all = |error: Error| (0..count).map(|_| Err(error.duplicate())).collect();
        // A batch that is larger than the window waits until it has the whole window.
        let permits = u32::try_from(count).unwrap_or(u32::MAX).min(self.size);
        let Ok(window) = self.window.clone().acquire_many_owned(permits).await else {
            return all(error::closed("publish"));
        };
        let bytes: usize = batch.iter().map(Message::size).sum();
        let permit = match core.admit(bytes).await {
            Ok(permit) => permit,
            Err(_) => return all(error::closed("publish")),
        };
        let (results, stored) = self.sort(batch);
        if stored.is_empty() {
            return results;
        }
        let (request, answer) = Request::one(Work::Publish(stored), vec![window, permit]);
        if self.client.submit(request).is_err() {
            return all(error::closed("publish"));
        }
        match self.in_time("publish", answer, "publish again with the same id").await {
            Ok(()) => results,
            Err(error) => results.into_iter().map(|result| result.and_then(|_| Err(error.duplicate()))).collect(),
        }
    }

    /// Takes back waiting messages, in the same order as all other writes.
    async fn withdraw(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        let core = self.client.core();
        let count = delayed.len();
        let all = |error: Error| (0..count).map(|_| Err(error.duplicate())).collect();
        let Ok(permit) = core.admit(CANCELLATION * count).await else { return all(error::closed("cancel")) };
        let catalog = core.state().catalog().clone();
        let mut cancellations = Vec::with_capacity(count);
        let known: Vec<Result<()>> = delayed
            .into_iter()
            .map(|delayed| {
                let topic = catalog.topic("cancel", &delayed.topic)?.clone();
                cancellations.push(Cancellation::new(topic, delayed));
                Ok(())
            })
            .collect();
        let (request, answer) = Request::cancel(cancellations, vec![permit]);
        if self.client.submit(request).is_err() {
            return all(error::closed("cancel"));
        }
        let mut answers = match self.in_time("cancel", answer, "cancel again").await {
            Ok(answers) => answers.into_iter(),
            Err(error) => return all(error),
        };
        known.into_iter().map(|known| known.map(|()| answers.next().unwrap_or_default())).collect()
    }

    /// Waits for the writer's answer. After the time limit the outcome is unknown, and `remedy` says what to do.
    async fn in_time<T>(
        &self,
        operation: &'static str,
        answer: oneshot::Receiver<Result<T>>,
        remedy: &str,
    ) -> Result<T> {
        match tokio::time::timeout(self.confirm_within, answered(operation, answer)).await {
            Ok(answer) => answer.flatten(),
            Err(_) => {
                let message = format!("not confirmed within {:?}; {remedy}", self.confirm_within);
                Err(Error::new(ErrorKind::OutcomeUnknown, operation, message))
            }
        }
    }

    /// Checks each message, gives those without a subscription to the listeners, and returns those to store.
    fn sort(&self, batch: Vec<Message>) -> (Vec<Result<Receipt>>, Vec<Prepared>) {
        let core = self.client.core();
        let now = core.now();
        let catalog = core.state().catalog().clone();
        let mut stored = Vec::with_capacity(batch.len());
        let mut results = Vec::with_capacity(batch.len());
        for message in batch {
            results.push(core.prepare(&catalog, message, now).map(|prepared| {
                let receipt = Receipt { partition: prepared.partition };
                if prepared.is_stored() {
                    stored.push(prepared);
                } else {
                    core.state().broadcast(prepared.partition, &prepared.message, now);
                }
                receipt
            }));
        }
        (results, stored)
    }
}

#[async_trait]
impl Producer for EmbeddedProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let span = telemetry::publish_span(SYSTEM, batch.len());
        self.send(batch).instrument(span).await
    }

    async fn cancel(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        self.withdraw(delayed).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        deliver(self.client.core(), replies)
    }
}

impl fmt::Debug for EmbeddedProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedProducer").field("window", &self.size).finish_non_exhaustive()
    }
}
