//! Mutants that deliver wrongly.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{ConsumerOptions, Delivery, Event, Message, MessageId, Producer, Receipt, Result};

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, Own, wrap};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!("swaps_two", "order.key_basic", "swaps two messages of a key now and then", SwapsTwo(AtomicUsize::new(0))),
    mutant!(
        "delivers_twice",
        "order.key_basic",
        "delivers a batch twice now and then",
        DeliversTwice(AtomicUsize::new(0))
    ),
    mutant!(
        "new_before_old",
        "order.takeover_with_new",
        "gives a successor new messages before the unsettled ones",
        NewBeforeOld
    ),
    mutant!("never_flags", "ack.crash_redelivers", "never flags a redelivery", NeverFlags),
    mutant!(
        "ignores_further_topics",
        "group.one_topic",
        "reads the first topic of a broadcast, and ignores the others",
        IgnoresFurtherTopics
    ),
    mutant!("broadcasts_to_one", "group.broadcast", "gives a stream to one of its listeners only", BroadcastsToOne),
    mutant!("next_is_not_cancel_safe", "cancel.safe", "loses an event when a pending next is dropped", NotCancelSafe),
    mutant!(
        "forgets_delays_on_restart",
        "delay.survives_restart",
        "forgets pending delays when it is restarted",
        ForgetsDelays(Mutex::default())
    ),
    mutant!(
        "loses_on_restart",
        "reconnect.broker_restart",
        "loses some stored messages when it is restarted",
        LosesOnRestart
    ),
    mutant!(
        "late_timers_first",
        "delay.joins_order",
        "puts messages that fall due before those that were there",
        LateTimersFirst
    ),
];

fn every(counter: &AtomicUsize, nth: usize) -> bool {
    counter.fetch_add(1, Ordering::Relaxed) % nth == nth - 1
}

#[derive(Debug)]
struct SwapsTwo(AtomicUsize);

#[async_trait]
impl Mutation for SwapsTwo {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut all| {
            let pair = (1..all.len()).find_map(|b| {
                let a = all[..b].iter().position(|earlier| earlier.message.key == all[b].message.key)?;
                Some((a, b))
            });
            if let Some((a, b)) = pair.filter(|_| every(&self.0, 3)) {
                all.swap(a, b);
            }
            all
        })
        .await
    }
}

#[derive(Debug)]
struct DeliversTwice(AtomicUsize);

#[async_trait]
impl Mutation for DeliversTwice {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        let event = own.next().await?;
        if let (Event::Deliveries(all), true) = (&event, every(&self.0, 7)) {
            let again = all.iter().map(|delivery| Delivery { redelivered: true, ..delivery.clone() });
            own.later.push_back(Event::Deliveries(again.collect()));
        }
        Ok(event)
    }
}

#[derive(Debug)]
struct NewBeforeOld;

#[async_trait]
impl Mutation for NewBeforeOld {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut all| {
            all.sort_by_key(|delivery| delivery.redelivered);
            all
        })
        .await
    }
}

#[derive(Debug)]
struct NeverFlags;

#[async_trait]
impl Mutation for NeverFlags {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|all| all.into_iter().map(|delivery| Delivery { redelivered: false, ..delivery }).collect()).await
    }
}

#[derive(Debug)]
struct IgnoresFurtherTopics;

#[async_trait]
impl Mutation for IgnoresFurtherTopics {
    fn join(&self, mut options: ConsumerOptions) -> ConsumerOptions {
        if options.subscription.is_none() {
            options.topics.truncate(1);
        }
        options
    }
}

#[derive(Debug)]
struct BroadcastsToOne;

#[async_trait]
impl Mutation for BroadcastsToOne {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        let deaf = own.options.subscription.is_none() && own.number > 0;
        own.map(|all| if deaf { Vec::new() } else { all }).await
    }
}

#[derive(Debug)]
struct NotCancelSafe;

#[async_trait]
impl Mutation for NotCancelSafe {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        let event = own.next().await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(event)
    }
}

/// Knows the messages that were published since it was started.
#[derive(Debug)]
struct ForgetsDelays(Mutex<HashSet<MessageId>>);

#[async_trait]
impl Mutation for ForgetsDelays {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.extend(batch.iter().map(|message| message.id.clone()));
        }
        inner.publish(batch).await
    }

    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut all| {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|delivery| delivery.message.not_before.is_none() || known.contains(&delivery.message.id));
            all
        })
        .await
    }
}

#[derive(Debug)]
struct LosesOnRestart;

#[async_trait]
impl Mutation for LosesOnRestart {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut all| {
            all.retain(|delivery| !delivery.redelivered || !delivery.message.id.as_str().ends_with('7'));
            all
        })
        .await
    }
}

#[derive(Debug)]
struct LateTimersFirst;

#[async_trait]
impl Mutation for LateTimersFirst {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut all| {
            all.sort_by_key(|delivery| delivery.message.not_before.is_none());
            all
        })
        .await
    }
}
