//! Mutants of the lanes: lanes that are run with other options than the case asks for, or over a view of the broker in
//! which they break a promise.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{Delivery, Error, ErrorKind, Event, Message, Partition, Producer, Receipt, Result};
use partitura_lanes::{Retry, headers};

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, Own, tokens, wrap};
use super::publishing::{publish_some, stored, to};
use crate::own_key::replace_key;

const MAIN: &str = ".orders";
const PARKING: &str = ".parking";
const DEAD: &str = ".dead";

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(view "does_not_keep_keys_apart", "order.key_exclusive", "runs messages of a key side by side", EachAlone),
    mutant!(view "one_lane_for_all", "order.key_exclusive", "runs one key at a time", OneLane),
    mutant!(view "goes_on_while_it_retries", "order.retry_block", "runs messages behind a failure", EachAlone),
    mutant!(view "stops_while_it_retries", "order.retry_block", "lets a failing key hold up the others", OneLane),
    mutant!("loses_parked", "order.parked", "confirms parked messages, and drops them", Loses(PARKING)),
    mutant!(view "overtakes_parked", "order.parked", "runs new messages before parked ones", Overtakes::default()),
    mutant!(view "counts_anew_after_parking", "order.parked", "forgets the attempts when it parks", ForgetsParking),
    mutant!(view "stops_at_a_death", "order.dlq_continue", "never gets a dead letter out of its key's way", CannotBury),
    mutant!(view "buries_twice", "order.dlq_continue", "publishes a dead letter twice", BuriesTwice),
    mutant!(view "poison_spreads", "poison.other_keys_flow", "lets a failing key hold up the others", OneLane),
    mutant!(options "retries_too_soon", "retry.backoff_shape", "makes pauses that are too short", |options| {
        options.retry(Retry::exponential().initial(Duration::from_millis(5)).max_attempts(5))
    }),
    mutant!(options "gives_up_too_soon", "retry.backoff_shape", "gives up one run too soon", |options| {
        options.retry(Retry::exponential().initial(Duration::from_millis(20)).max_attempts(4))
    }),
    mutant!(options "drops_handlers", "shutdown.drain", "drops running handlers when it shuts down", |options| {
        options.drain_within(Duration::ZERO)
    }),
    mutant!(view "settles_the_rest", "shutdown.drain", "settles messages that it has not run when it shuts down", SettlesAll),
    mutant!(view "settles_before_it_buries", "dlq.atomic", "settles before its dead letter is stored", BuriesLater),
    mutant!(view "redrives_backwards", "dlq.redrive", "redrives in another order", Backwards),
    mutant!(view "redrives_without_end", "dlq.redrive", "forgets how often a letter was redriven", ForgetsRedrives),
    mutant!(view "settles_what_it_cannot_give_up", "dlq.failed_publish", "takes a failed burial for one", IgnoresFailures),
    mutant!(view "loses_traces", "obs.trace", "drops the headers of a trace from dead letters", LosesTraces),
];

/// Each message has a key of its own.
#[derive(Debug)]
struct EachAlone;

#[async_trait]
impl Mutation for EachAlone {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut all| {
            all.iter_mut().for_each(|delivery| replace_key(delivery, delivery.message.id.to_string()));
            all
        })
        .await
    }
}

/// All messages have one key.
#[derive(Debug)]
struct OneLane;

#[async_trait]
impl Mutation for OneLane {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut all| {
            all.iter_mut().for_each(|delivery| replace_key(delivery, "one"));
            all
        })
        .await
    }
}

/// Confirms messages to a topic, and drops them.
#[derive(Debug)]
struct Loses(&'static str);

#[async_trait]
impl Mutation for Loses {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        publish_some(inner, batch, |message| !to(&message.topic, self.0)).await
    }
}

/// Keeps the keys that have something parked.
#[derive(Debug, Default)]
struct Overtakes(Mutex<HashSet<Option<Bytes>>>);

#[async_trait]
impl Mutation for Overtakes {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let parked = batch.iter().filter(|message| to(&message.topic, PARKING)).map(|message| message.key.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(parked);
        inner.publish(batch).await
    }

    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut all| {
            let parked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let overtakes =
                |delivery: &&mut Delivery| to(&delivery.message.topic, MAIN) && parked.contains(&delivery.message.key);
            all.iter_mut()
                .filter(overtakes)
                .for_each(|delivery| replace_key(delivery, delivery.message.id.to_string()));
            all
        })
        .await
    }
}

#[derive(Debug)]
struct ForgetsParking;

#[async_trait]
impl Mutation for ForgetsParking {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut all| {
            for delivery in all.iter_mut().filter(|delivery| to(&delivery.message.topic, PARKING)) {
                let parked = delivery.message.headers.get_str(headers::PARKED).map(str::to_owned);
                let Some(parked) = parked else { continue };
                let mut words: Vec<&str> = parked.split(' ').collect();
                // The second says how often it was run.
                if let Some(attempts) = words.get_mut(1) {
                    *attempts = "0";
                }
                delivery.message.headers.insert(headers::PARKED, words.join(" "));
            }
            all
        })
        .await
    }
}

#[derive(Debug)]
struct CannotBury;

#[async_trait]
impl Mutation for CannotBury {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        if !batch.iter().any(|message| to(&message.topic, DEAD)) {
            return inner.publish(batch).await;
        }
        batch.iter().map(|_| Err(Error::new(ErrorKind::Timeout, "publish", "no answer"))).collect()
    }
}

#[derive(Debug)]
struct BuriesTwice;

#[async_trait]
impl Mutation for BuriesTwice {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let again: Vec<Message> = batch.iter().filter(|message| to(&message.topic, DEAD)).cloned().collect();
        let results = inner.publish(batch).await;
        inner.publish(again).await;
        results
    }
}

#[derive(Debug)]
struct SettlesAll;

#[async_trait]
impl Mutation for SettlesAll {
    async fn leave(&self, mut own: Own) -> Result<()> {
        own.inner.settle(&tokens(&own.handed_out));
        own.inner.close().await
    }
}

#[derive(Debug)]
struct BuriesLater;

#[async_trait]
impl Mutation for BuriesLater {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        if !batch.iter().any(|message| to(&message.topic, DEAD)) {
            return inner.publish(batch).await;
        }
        let (inner, count) = (inner.clone(), batch.len());
        tokio::spawn(async move {
            // Wide enough for a process to die in.
            tokio::time::sleep(Duration::from_millis(300)).await;
            inner.publish(batch).await
        });
        stored(count)
    }
}

fn is_redriven(message: &Message) -> bool {
    message.headers.get(headers::REDRIVEN).is_some() && !to(&message.topic, DEAD)
}

#[derive(Debug)]
struct Backwards;

#[async_trait]
impl Mutation for Backwards {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        if batch.iter().any(is_redriven) {
            batch.reverse();
        }
        inner.publish(batch).await
    }
}

#[derive(Debug)]
struct ForgetsRedrives;

#[async_trait]
impl Mutation for ForgetsRedrives {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        for message in batch.iter_mut().filter(|message| is_redriven(message)) {
            message.headers.remove(headers::REDRIVEN);
        }
        inner.publish(batch).await
    }
}

#[derive(Debug)]
struct IgnoresFailures;

#[async_trait]
impl Mutation for IgnoresFailures {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let answer = |result: Result<Receipt>| Ok(result.unwrap_or(Receipt { partition: Partition(0) }));
        inner.publish(batch).await.into_iter().map(answer).collect()
    }
}

#[derive(Debug)]
struct LosesTraces;

#[async_trait]
impl Mutation for LosesTraces {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        for message in batch.iter_mut().filter(|message| to(&message.topic, DEAD)) {
            ["traceparent", "tracestate"].iter().for_each(|name| message.headers.remove(name));
        }
        inner.publish(batch).await
    }
}
