//! Mutants that cancel wrongly.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{Delayed, Event, Message, MessageId, Producer, Receipt, Result, TopicName};

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, Own, wrap};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(
        "cancels_nothing",
        "delay.cancel",
        "says that it cancelled, and delivers anyhow",
        CancelsNothing(Mutex::default())
    ),
    mutant!(
        "cancels_its_neighbour",
        "delay.cancel",
        "cancels another message of the same key",
        CancelsItsNeighbour(Mutex::default())
    ),
    mutant!(
        "denies_cancelling",
        "delay.cancel",
        "cancels, and says that there was nothing to cancel",
        DeniesCancelling
    ),
    mutant!(
        "cancels_what_is_gone",
        "delay.cancel",
        "says that it cancelled whatever it is asked for",
        CancelsWhatIsGone
    ),
    mutant!("turns_answers_around", "delay.cancel", "answers in another order", TurnsAnswersAround),
    mutant!(
        "takes_ids_for_ever",
        "delay.cancel",
        "drops messages that are published under a cancelled id",
        TakesIdsForEver(Mutex::default())
    ),
    mutant!(
        "cancels_too_late",
        "delay.cancel_race",
        "answers that it cancelled a message that it is about to deliver",
        CancelsWhatIsGone
    ),
    mutant!(
        "loses_the_race",
        "delay.cancel_race",
        "loses a message that it was asked to cancel too late",
        LosesTheRace(Mutex::default())
    ),
    mutant!(
        "cancels_in_memory",
        "delay.cancel_survives_restart",
        "remembers cancelled messages in memory only, and delivers them after a restart",
        CancelsInMemory(Mutex::default())
    ),
];

type Ids = Mutex<HashSet<MessageId>>;

fn remember(ids: &Ids, id: &MessageId) -> bool {
    ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone())
}

fn knows(ids: &Ids, id: &MessageId) -> bool {
    ids.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
}

/// Settles the messages that are kept back.
async fn without(own: &mut Own, ids: &Ids) -> Result<Event> {
    loop {
        let event = own.next().await?;
        let Event::Deliveries(deliveries) = event else { return Ok(event) };
        let (dropped, left): (Vec<_>, Vec<_>) =
            deliveries.into_iter().partition(|delivery| knows(ids, &delivery.message.id));
        own.inner.settle(&crate::client::tokens(&dropped));
        if !left.is_empty() {
            return Ok(Event::Deliveries(left));
        }
    }
}

/// True once for each, as it should be for waiting messages.
#[derive(Debug)]
struct CancelsNothing(Ids);

#[async_trait]
impl Mutation for CancelsNothing {
    async fn cancel(&self, inner: &Arc<dyn Producer>, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        let mut answers = Vec::with_capacity(delayed.len());
        for delayed in delayed {
            let soon = delayed.not_before.since(crate::client::now()) < Duration::from_secs(600);
            // A message that is not due during the case is cancelled properly, so that its answers are right.
            answers.push(match soon {
                true => Ok(remember(&self.0, &delayed.id)),
                false => inner.cancel(vec![delayed]).await.pop().unwrap_or(Ok(false)),
            });
        }
        answers
    }
}

type Published = HashMap<(TopicName, Option<Bytes>), Vec<Delayed>>;

/// Of the messages of a key, the one that was published after the one that was meant.
#[derive(Debug)]
struct CancelsItsNeighbour(Mutex<Published>);

#[async_trait]
impl Mutation for CancelsItsNeighbour {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        for delayed in batch.iter().filter_map(Message::delayed) {
            let mut published = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            published.entry((delayed.topic.clone(), delayed.key.clone())).or_default().push(delayed);
        }
        inner.publish(batch).await
    }

    async fn cancel(&self, inner: &Arc<dyn Producer>, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        let neighbour = |meant: Delayed| {
            let published = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let of_key = published.get(&(meant.topic.clone(), meant.key.clone()));
            let next = of_key.and_then(|all| all.iter().skip_while(|other| **other != meant).nth(1).cloned());
            next.unwrap_or(meant)
        };
        inner.cancel(delayed.into_iter().map(neighbour).collect()).await
    }
}

#[derive(Debug)]
struct DeniesCancelling;

#[async_trait]
impl Mutation for DeniesCancelling {
    async fn cancel(&self, inner: &Arc<dyn Producer>, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        inner.cancel(delayed).await.into_iter().map(|answer| answer.map(|_| false)).collect()
    }
}

#[derive(Debug)]
struct CancelsWhatIsGone;

#[async_trait]
impl Mutation for CancelsWhatIsGone {
    async fn cancel(&self, inner: &Arc<dyn Producer>, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        inner.cancel(delayed).await.into_iter().map(|answer| answer.map(|_| true)).collect()
    }
}

#[derive(Debug)]
struct TurnsAnswersAround;

#[async_trait]
impl Mutation for TurnsAnswersAround {
    async fn cancel(&self, inner: &Arc<dyn Producer>, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        let mut answers = inner.cancel(delayed).await;
        answers.reverse();
        answers
    }
}

#[derive(Debug)]
struct TakesIdsForEver(Ids);

#[async_trait]
impl Mutation for TakesIdsForEver {
    async fn cancel(&self, inner: &Arc<dyn Producer>, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        for delayed in &delayed {
            remember(&self.0, &delayed.id);
        }
        inner.cancel(delayed).await
    }

    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        super::publishing::publish_some(inner, batch, |message| !knows(&self.0, &message.id)).await
    }
}

/// Counts a message that is due in a moment as delivered, and never delivers it.
#[derive(Debug)]
struct LosesTheRace(Ids);

#[async_trait]
impl Mutation for LosesTheRace {
    async fn cancel(&self, inner: &Arc<dyn Producer>, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        let mut answers = Vec::with_capacity(delayed.len());
        for delayed in delayed {
            let soon = delayed.not_before.since(crate::client::now()) < Duration::from_millis(300);
            answers.push(match soon {
                true => {
                    remember(&self.0, &delayed.id);
                    Ok(false)
                }
                false => inner.cancel(vec![delayed]).await.pop().unwrap_or(Ok(false)),
            });
        }
        answers
    }

    async fn next(&self, own: &mut Own) -> Result<Event> {
        without(own, &self.0).await
    }
}

#[derive(Debug)]
struct CancelsInMemory(Ids);

#[async_trait]
impl Mutation for CancelsInMemory {
    async fn cancel(&self, _: &Arc<dyn Producer>, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        delayed.iter().map(|delayed| Ok(remember(&self.0, &delayed.id))).collect()
    }

    async fn next(&self, own: &mut Own) -> Result<Event> {
        without(own, &self.0).await
    }
}
