//! Mutants that publish wrongly.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{
    Error, ErrorKind, InboxAddress, Message, MessageId, Partition, Producer, Receipt, Result, TopicName,
};

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, wrap};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(
        "loses_some",
        "publish.confirmed_is_delivered",
        "loses every 100th message that it confirms",
        Every(Fault::Lose)
    ),
    mutant!(
        "duplicates_some",
        "publish.confirmed_is_delivered",
        "stores every 100th message twice",
        Every(Fault::Duplicate)
    ),
    mutant!(
        "changes_a_byte",
        "publish.confirmed_is_delivered",
        "changes a byte of every 100th payload",
        Every(Fault::Change)
    ),
    mutant!(
        "loses_some_in_a_crowd",
        "publish.concurrent",
        "loses every 100th message that it confirms, with many at once",
        Every(Fault::Lose)
    ),
    mutant!(
        "duplicates_some_keys",
        "scale.keys",
        "stores every 100th message twice, with many keys",
        Every(Fault::Duplicate)
    ),
    mutant!(
        "mixes_many_topics",
        "scale.topics",
        "sends every 50th message to the topic of the one before",
        MixesTopics(Mutex::default())
    ),
    mutant!("has_no_room", "flow.window", "waits without end for room for a large batch", HasNoRoom(10)),
    mutant!(
        "mixes_topics",
        "publish.many_topics",
        "sends every 50th message to the topic of the one before",
        MixesTopics(Mutex::default())
    ),
    mutant!(
        "fails_the_whole_batch",
        "publish.batch_results",
        "lets one refused message fail its whole batch",
        FailsTheBatch
    ),
    mutant!(
        "turns_results_around",
        "publish.batch_results",
        "answers a batch's results in another order",
        TurnsResultsAround
    ),
    mutant!(
        "names_another_partition",
        "publish.partition",
        "gives receipts that name the wrong partition",
        NamesAnotherPartition
    ),
    mutant!(
        "turns_batches_around",
        "order.key_basic",
        "stores the messages of a batch in another order",
        TurnsBatchesAround
    ),
    mutant!(
        "reads_payloads",
        "payload.edges",
        "takes a payload for text, and replaces bytes that are none",
        ReadsPayloads
    ),
    mutant!("cuts_payloads", "payload.edges", "accepts a payload beyond the limit, and cuts it", Cuts),
    mutant!("loses_headers", "header.edges", "keeps one header of each name only", LosesHeaders),
    mutant!("empty_key_is_none", "key.edges", "takes the empty key for none", EmptyKeyIsNone),
    mutant!("cuts_keys", "key.edges", "accepts a key beyond the limit, and cuts it", Cuts),
    mutant!("mends_ids", "id.edges", "accepts ids that are none, and gives others", MendsIds),
    mutant!("confirms_before_storing", "confirm.durable", "confirms before it has stored", ConfirmsEarly),
    mutant!(
        "retries_reorder",
        "confirm.lost_then_retried",
        "stores a message that is published again behind later ones",
        RetriesReorder(Mutex::default())
    ),
    mutant!("replies_to_all", "inbox.reply", "sends every reply to every inbox", RepliesToAll),
    mutant!("loses_dead_headers", "dlq.metadata", "drops the headers of dead letters", LosesDeadHeaders),
    mutant!("loses_dead_letters", "dlq.metadata", "confirms dead letters that it does not store", LosesDeadLetters),
];

pub(super) fn to(topic: &TopicName, what: &str) -> bool {
    topic.as_str().ends_with(what)
}

pub(super) fn stored(count: usize) -> Vec<Result<Receipt>> {
    (0..count).map(|_| Ok(Receipt { partition: Partition(0) })).collect()
}

/// Publishes the rest of a batch, and answers as if all of it had been stored.
pub(super) async fn publish_some(
    inner: &Arc<dyn Producer>,
    batch: Vec<Message>,
    mut keep: impl FnMut(&Message) -> bool,
) -> Vec<Result<Receipt>> {
    let mut kept = Vec::new();
    let which: Vec<bool> = batch.iter().map(&mut keep).collect();
    kept.extend(batch.into_iter().zip(&which).filter(|(_, keep)| **keep).map(|(message, _)| message));
    let mut results = inner.publish(kept).await.into_iter();
    let nothing = || Ok(Receipt { partition: Partition(0) });
    which.into_iter().map(|kept| if kept { results.next().unwrap_or_else(nothing) } else { nothing() }).collect()
}

#[derive(Debug)]
enum Fault {
    Lose,
    Duplicate,
    Change,
}

#[derive(Debug)]
struct EveryHundredth(Fault, AtomicUsize);

#[allow(non_snake_case)]
fn Every(fault: Fault) -> EveryHundredth {
    EveryHundredth(fault, AtomicUsize::new(0))
}

#[async_trait]
impl Mutation for EveryHundredth {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let chosen = || self.1.fetch_add(1, Ordering::Relaxed) % 100 == 57;
        match self.0 {
            Fault::Lose => publish_some(inner, batch, |_| !chosen()).await,
            Fault::Duplicate => {
                let again: Vec<Message> = batch.iter().filter(|_| chosen()).cloned().collect();
                let results = inner.publish(batch).await;
                inner.publish(again).await;
                results
            }
            Fault::Change => {
                for message in batch.iter_mut().filter(|message| !message.payload.is_empty() && chosen()) {
                    let mut payload = message.payload.to_vec();
                    payload[0] ^= 1;
                    message.payload = payload.into();
                }
                inner.publish(batch).await
            }
        }
    }
}

#[derive(Debug)]
struct MixesTopics(Mutex<(usize, Option<TopicName>)>);

#[async_trait]
impl Mutation for MixesTopics {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        for message in &mut batch {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            last.0 += 1;
            let before = last.1.replace(message.topic.clone());
            if let Some(before) = before.filter(|_| last.0.is_multiple_of(50)) {
                message.topic = before;
            }
        }
        inner.publish(batch).await
    }
}

/// Waits for room for a whole batch, and there is less.
#[derive(Debug)]
struct HasNoRoom(usize);

#[async_trait]
impl Mutation for HasNoRoom {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        if batch.len() > self.0 {
            std::future::pending::<()>().await;
        }
        inner.publish(batch).await
    }
}

#[derive(Debug)]
struct FailsTheBatch;

#[async_trait]
impl Mutation for FailsTheBatch {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let results = inner.publish(batch).await;
        match results.iter().find_map(|result| result.as_ref().err()).map(|error| error.duplicate()) {
            Some(error) => results.iter().map(|_| Err(error.duplicate())).collect(),
            None => results,
        }
    }
}

#[derive(Debug)]
struct TurnsResultsAround;

#[async_trait]
impl Mutation for TurnsResultsAround {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let mut results = inner.publish(batch).await;
        results.reverse();
        results
    }
}

#[derive(Debug)]
struct NamesAnotherPartition;

#[async_trait]
impl Mutation for NamesAnotherPartition {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let other = |receipt: Receipt| Receipt { partition: Partition(receipt.partition.0 / 2) };
        inner.publish(batch).await.into_iter().map(|result| result.map(other)).collect()
    }
}

#[derive(Debug)]
struct TurnsBatchesAround;

#[async_trait]
impl Mutation for TurnsBatchesAround {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        batch.reverse();
        let mut results = inner.publish(batch).await;
        results.reverse();
        results
    }
}

#[derive(Debug)]
struct ReadsPayloads;

#[async_trait]
impl Mutation for ReadsPayloads {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        for message in batch.iter_mut().filter(|message| message.payload.len() < 100_000) {
            message.payload = String::from_utf8_lossy(&message.payload).into_owned().into();
        }
        inner.publish(batch).await
    }
}

/// To the limits that every broker has.
#[derive(Debug)]
struct Cuts;

#[async_trait]
impl Mutation for Cuts {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let limits = partitura_broker::Limits::default();
        for message in &mut batch {
            message.payload.truncate(limits.payload);
            message.key.iter_mut().for_each(|key| key.truncate(limits.key));
        }
        inner.publish(batch).await
    }
}

#[derive(Debug)]
struct LosesHeaders;

#[async_trait]
impl Mutation for LosesHeaders {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        for message in &mut batch {
            let all: Vec<(String, Bytes)> =
                message.headers.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
            all.into_iter().for_each(|(name, value)| message.headers.insert(&name, value));
        }
        inner.publish(batch).await
    }
}

#[derive(Debug)]
struct EmptyKeyIsNone;

#[async_trait]
impl Mutation for EmptyKeyIsNone {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        for message in &mut batch {
            message.key = message.key.take().filter(|key| !key.is_empty());
        }
        inner.publish(batch).await
    }
}

#[derive(Debug)]
struct MendsIds;

#[async_trait]
impl Mutation for MendsIds {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        for message in &mut batch {
            let mended: String = message.id.as_str().chars().filter(char::is_ascii_graphic).take(255).collect();
            message.id = if mended.is_empty() { "none".into() } else { mended.into() };
        }
        inner.publish(batch).await
    }
}

#[derive(Debug)]
struct ConfirmsEarly;

#[async_trait]
impl Mutation for ConfirmsEarly {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let (inner, count) = (inner.clone(), batch.len());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            inner.publish(batch).await
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        stored(count)
    }
}

/// Loses the confirm of some, and stores their second copy behind later messages.
#[derive(Debug)]
struct RetriesReorder(Mutex<HashSet<MessageId>>);

#[async_trait]
impl Mutation for RetriesReorder {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let Some(id) = batch.first().map(|message| message.id.clone()).filter(|id| id.as_str().ends_with('3')) else {
            return inner.publish(batch).await;
        };
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        if first {
            let unknown = || Error::new(ErrorKind::OutcomeUnknown, "publish", "the connection broke");
            return batch.iter().map(|_| Err(unknown())).collect();
        }
        let (inner, count) = (inner.clone(), batch.len());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            inner.publish(batch).await
        });
        stored(count)
    }
}

#[derive(Debug)]
struct RepliesToAll;

#[async_trait]
impl Mutation for RepliesToAll {
    async fn reply(&self, inner: &Arc<dyn Producer>, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        let all: Vec<InboxAddress> = replies.iter().map(|(address, _)| address.clone()).collect();
        let each =
            |message: Message| all.iter().map(move |address| (address.clone(), message.clone())).collect::<Vec<_>>();
        inner.reply(replies.into_iter().flat_map(|(_, message)| each(message)).collect()).await
    }
}

#[derive(Debug)]
struct LosesDeadHeaders;

#[async_trait]
impl Mutation for LosesDeadHeaders {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        batch.iter_mut().filter(|message| to(&message.topic, ".dead")).for_each(|message| {
            message.headers = partitura_broker::Headers::default();
        });
        inner.publish(batch).await
    }
}

#[derive(Debug)]
struct LosesDeadLetters;

#[async_trait]
impl Mutation for LosesDeadLetters {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        publish_some(inner, batch, |message| !to(&message.topic, ".dead")).await
    }
}
