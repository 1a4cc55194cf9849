use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{
    Clock, Delayed, InboxAddress, Message, Partition, Producer, ProducerOptions, Receipt, Result, telemetry,
};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::core::{Core, SYSTEM};
use crate::publish_queue::{MAX_ROWS, Placed, PublishQueue};
use crate::wire::Row;
use crate::{delay, error, inbox, notices, wire};

/// The largest size of one statement in bytes, unless a single message is larger.
const MAX_BYTES: usize = 4 << 20;

/// Publishes over one session, which all producers of a broker share: requests are stored in their order.
pub(crate) struct TemplateProducer {
    core: Arc<Core>,
    queue: Arc<Mutex<PublishQueue>>,
    options: ProducerOptions,
    window: Semaphore,
}

impl TemplateProducer {
    pub(crate) fn new(core: Arc<Core>, queue: Arc<Mutex<PublishQueue>>, options: ProducerOptions) -> Self {
        let window = Semaphore::new(options.window.get().min(Semaphore::MAX_PERMITS));
        Self { core, queue, options, window }
    }

    async fn store(&self, batch: &[Message]) -> Result<Vec<Result<Receipt>>> {
        // A batch that is larger than the window waits until it has the whole window. This queue and the
        // publish queue are first in, first out, so calls keep their order.
        let share = u32::try_from(batch.len().min(self.options.window.get())).unwrap_or(u32::MAX);
        let _window = self.window.acquire_many(share).await.map_err(|_| error::closed("publish"))?;
        let deadline = Instant::now() + self.options.confirm_within;
        let mut queue = self.queue.lock().await;
        let session = queue.session("publish").await?;
        let mut results = Vec::with_capacity(batch.len());
        for message in batch {
            let partition = match self.core.capabilities.check(message, self.core.clock.now()) {
                Ok(()) => queue.partition(&session, "publish", &Placed::from(message)).await,
                refused => refused.map(|()| Partition(0)),
            };
            results.push(partition.map(|partition| Receipt { partition }));
        }
        let mut answers = Vec::new();
        for part in in_parts(batch, &results) {
            let row = |at: &usize| {
                let (message, partition) = (&batch[*at], results[*at].as_ref().ok()?.partition);
                Some(Row { address: message.topic.as_str(), partition, message })
            };
            let rows: Vec<_> = part.iter().filter_map(row).collect();
            answers.push((session.ask("publish", wire::publish(&rows)), part));
        }
        // The notice is a statement of its own, since a transaction with a notice keeps others from committing at the
        // same time. If it is lost, readers look after a while.
        for topic in batch.iter().map(|message| message.topic.as_str()).collect::<HashSet<_>>() {
            session.ask("announce messages", notices::announce(topic));
        }
        drop(queue);
        for (answer, part) in answers {
            let answer = timeout_at(deadline, answer.arrive()).await;
            let answer = answer.unwrap_or_else(|_| Err(error::timed_out("publish")));
            if let Err(failed) = answer.map_err(|failed| error::outcome_unknown("publish", failed)) {
                part.iter().for_each(|at| results[*at] = Err(failed.duplicate()));
                results[part[0]] = Err(failed);
            }
        }
        Ok(results)
    }
}

/// Splits the valid messages, by their places in the batch, into statements.
fn in_parts(batch: &[Message], results: &[Result<Receipt>]) -> Vec<Vec<usize>> {
    let (mut parts, mut bytes) = (Vec::<Vec<usize>>::new(), 0);
    for (at, message) in batch.iter().enumerate().filter(|(at, _)| results[*at].is_ok()) {
        bytes += message.size();
        match parts.last_mut() {
            Some(part) if part.len() < MAX_ROWS && bytes <= MAX_BYTES => part.push(at),
            _ => {
                bytes = message.size();
                parts.push(vec![at]);
            }
        }
    }
    parts
}

#[async_trait]
impl Producer for TemplateProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let span = telemetry::publish_span(SYSTEM, batch.len());
        match self.store(&batch).instrument(span).await {
            Ok(results) => results,
            Err(error) => batch.iter().map(|_| Err(error.duplicate())).collect(),
        }
    }

    async fn cancel(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        match delay::cancel(&self.queue, &delayed, self.options.confirm_within).await {
            Ok(results) => results,
            Err(error) => delayed.iter().map(|_| Err(error.duplicate())).collect(),
        }
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        for (_, reply) in &replies {
            self.core.capabilities.check(reply, self.core.clock.now())?;
        }
        let rows = inbox::rows(&replies);
        if rows.is_empty() {
            return Ok(());
        }
        let session = self.queue.lock().await.session("reply").await?;
        let sent = session.ask("reply", wire::publish(&rows));
        for address in rows.iter().map(|row| row.address).collect::<HashSet<_>>() {
            session.ask("announce replies", notices::announce(address));
        }
        sent.arrive().await.map(drop)
    }
}

impl fmt::Debug for TemplateProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateProducer").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use partitura_broker::TopicName;

    use super::*;

    #[test]
    fn a_batch_is_split_by_number_and_by_size_without_the_messages_that_are_refused() {
        let topic = TopicName::new("t").expect("a name");
        let of = |size: usize| Message::new(topic.clone(), "id", vec![0; size]);
        let stored = || Ok(Receipt { partition: Partition(0) });
        let lengths = |batch: &[Message], results: &[Result<Receipt>]| {
            in_parts(batch, results).iter().map(Vec::len).collect::<Vec<_>>()
        };
        let many = vec![of(1); 2 * MAX_ROWS + 1];
        let mut results: Vec<_> = many.iter().map(|_| stored()).collect();
        assert_eq!(lengths(&many, &results), [MAX_ROWS, MAX_ROWS, 1]);
        results[0] = Err(error::closed("publish"));
        assert_eq!(lengths(&many, &results), [MAX_ROWS, MAX_ROWS]);
        let large = [of(MAX_BYTES / 2), of(MAX_BYTES / 2), of(2 * MAX_BYTES), of(1)];
        assert_eq!(lengths(&large, &[stored(), stored(), stored(), stored()]), [2, 1, 1]);
        assert!(in_parts(&[], &[]).is_empty());
    }
}
