use std::collections::{HashMap, HashSet, hash_map::Entry};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{
    Clock, Delayed, Error, ErrorKind, InboxAddress, Message, MessageId, Ordering, Partition, Producer, ProducerOptions,
    Receipt, Result, TopicKind, TopicName, partition_of, telemetry,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::session::{Host, Session};
use crate::template::{Core, SYSTEM};
use crate::topology::Found;
use crate::{error, inbox, notices, wire};

/// The largest size of one statement, unless a single message is larger.
const MOST_MESSAGES: usize = 1_000;
const MOST_BYTES: usize = 4 << 20;

/// Publishes over one session, which all producers of a broker share: requests are stored in their order.
pub(crate) struct TemplateProducer {
    core: Arc<Core>,
    options: ProducerOptions,
    window: Semaphore,
}

/// The queue of calls, which are sent one after another.
#[derive(Debug)]
pub(crate) struct Desk {
    session: Arc<Session>,
    /// The ordering of topics. It never changes, so it is asked for once.
    topics: HashMap<TopicName, Ordering>,
}

impl Desk {
    pub(crate) fn over(session: Arc<Session>) -> Self {
        Self { session, topics: HashMap::new() }
    }

    /// The session; a new one, if the last has ended.
    pub(crate) async fn session(&mut self, host: &Host, operation: &'static str) -> Result<Arc<Session>> {
        if self.session.has_ended() || host.is_closed() {
            self.session = Session::open(host, operation).await?;
        }
        Ok(self.session.clone())
    }

    /// Returns the partition of a message, or the reason why it cannot be published.
    async fn place(
        &mut self,
        session: &Session,
        operation: &'static str,
        (topic, key, id): (&TopicName, Option<&Bytes>, &MessageId),
    ) -> Result<Partition> {
        let ordering = match self.topics.entry(topic.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => {
                let rows = session.ask(operation, Found::query(unknown.key())).arrive().await?;
                let found = Found::read(operation, unknown.key(), &rows)?;
                if found.topic.kind == TopicKind::Queue && found.subscriptions.is_empty() {
                    let text = "the queue has no subscription, so no consumer would receive it; declare one";
                    return Err(Error::new(ErrorKind::NotFound, operation, text).of(unknown.key()));
                }
                *unknown.insert(found.topic.ordering)
            }
        };
        // A message without a key may be in any partition.
        Ok(partition_of(key.map_or(id.as_str().as_bytes(), |key| key), ordering.partitions()))
    }
}

impl TemplateProducer {
    pub(crate) fn new(core: Arc<Core>, options: ProducerOptions) -> Self {
        let window = Semaphore::new(options.window.get().min(Semaphore::MAX_PERMITS));
        Self { core, options, window }
    }

    async fn store(&self, batch: &[Message]) -> Result<Vec<Result<Receipt>>> {
        // A batch that is larger than the window waits until it has the whole window. This queue and the desk's are
        // first in, first out, so calls keep their order.
        let share = u32::try_from(batch.len().min(self.options.window.get())).unwrap_or(u32::MAX);
        let _window = self.window.acquire_many(share).await.map_err(|_| error::closed("publish"))?;
        let deadline = Instant::now() + self.options.confirm_within;
        let mut desk = self.core.desk.lock().await;
        let session = desk.session(&self.core.host, "publish").await?;
        let mut results = Vec::with_capacity(batch.len());
        for message in batch {
            let place = match self.core.capabilities.check(message, self.core.clock.now()) {
                Ok(()) => desk.place(&session, "publish", (&message.topic, message.key.as_ref(), &message.id)).await,
                refused => refused.map(|()| Partition(0)),
            };
            results.push(place.map(|partition| Receipt { partition }));
        }
        let mut answers = Vec::new();
        for part in in_parts(batch, &results) {
            let row =
                |at: &usize| Some((batch[*at].topic.as_str(), results[*at].as_ref().ok()?.partition, &batch[*at]));
            let rows: Vec<_> = part.iter().filter_map(row).collect();
            answers.push((session.ask("publish", wire::publish(&rows)), part));
        }
        // The notice is a statement of its own, since a transaction with a notice keeps others from committing at the
        // same time. If it is lost, readers look after a while.
        for topic in batch.iter().map(|message| message.topic.as_str()).collect::<HashSet<_>>() {
            session.ask("ring", notices::ring(topic));
        }
        drop(desk);
        for (answer, part) in answers {
            let answer = timeout_at(deadline, answer.arrive()).await;
            if let Err(failed) =
                answer.unwrap_or_else(|_| Err(error::silent("publish"))).map_err(|error| unknown("publish", error))
            {
                part.iter().for_each(|at| results[*at] = Err(failed.duplicate()));
                results[part[0]] = Err(failed);
            }
        }
        Ok(results)
    }

    async fn take_back(&self, delayed: &[Delayed]) -> Result<Vec<Result<bool>>> {
        let deadline = Instant::now() + self.options.confirm_within;
        let mut desk = self.core.desk.lock().await;
        let session = desk.session(&self.core.host, "cancel").await?;
        let (mut results, mut wanted, mut places) = (Vec::with_capacity(delayed.len()), Vec::new(), Vec::new());
        for (at, each) in delayed.iter().enumerate() {
            let place = desk.place(&session, "cancel", (&each.topic, each.key.as_ref(), &each.id)).await;
            results.push(place.map(|partition| {
                wanted.push((partition, each));
                places.push(at);
                false
            }));
        }
        let answers: Vec<_> =
            wanted.chunks(MOST_MESSAGES).map(|part| session.ask("cancel", wire::cancel(part))).collect();
        drop(desk);
        for (answer, part) in answers.into_iter().zip(places.chunks(MOST_MESSAGES)) {
            let rows = timeout_at(deadline, answer.arrive()).await.unwrap_or_else(|_| Err(error::silent("cancel")));
            let rows = rows.and_then(|rows| wire::cancelled(&rows).map_err(|source| error::of("cancel", source)));
            let gone = rows.map_err(|error| unknown("cancel", error));
            for (i, at) in part.iter().enumerate() {
                results[*at] = gone.as_ref().map(|gone| gone.contains(&i)).map_err(Error::duplicate);
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
            Some(part) if part.len() < MOST_MESSAGES && bytes <= MOST_BYTES => part.push(at),
            _ => {
                bytes = message.size();
                parts.push(vec![at]);
            }
        }
    }
    parts
}

/// The request may have been carried out, and a caller that repeats it has to know this.
fn unknown(operation: &'static str, error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Timeout) {
        return error;
    }
    let message = "the connection broke before the answer came; do it again under the same id";
    Error::new(ErrorKind::OutcomeUnknown, operation, message).because(error)
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
        match self.take_back(&delayed).await {
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
        let session = self.core.desk.lock().await.session(&self.core.host, "reply").await?;
        let sent = session.ask("reply", wire::publish(&rows));
        for address in rows.iter().map(|(address, ..)| *address).collect::<HashSet<_>>() {
            session.ask("ring", notices::ring(address));
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
    use super::*;

    #[test]
    fn a_batch_is_cut_by_number_and_by_size_and_what_is_refused_is_left_out() {
        let topic = TopicName::new("t").expect("a name");
        let of = |size: usize| Message::new(topic.clone(), "id", vec![0; size]);
        let stored = || Ok(Receipt { partition: Partition(0) });
        let lengths = |batch: &[Message], results: &[Result<Receipt>]| {
            in_parts(batch, results).iter().map(Vec::len).collect::<Vec<_>>()
        };
        let many = vec![of(1); 2 * MOST_MESSAGES + 1];
        let mut results: Vec<_> = many.iter().map(|_| stored()).collect();
        assert_eq!(lengths(&many, &results), [MOST_MESSAGES, MOST_MESSAGES, 1]);
        results[0] = Err(error::closed("publish"));
        assert_eq!(lengths(&many, &results), [MOST_MESSAGES, MOST_MESSAGES]);
        let large = [of(MOST_BYTES / 2), of(MOST_BYTES / 2), of(2 * MOST_BYTES), of(1)];
        assert_eq!(lengths(&large, &[stored(), stored(), stored(), stored()]), [2, 1, 1]);
        assert!(in_parts(&[], &[]).is_empty());
    }
}
