//! Mutants that hand over wrongly.

use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{AckToken, Event, Partition, Result};

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, Own, wrap};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(
        "does_not_wait_for_release",
        "order.graceful_handover",
        "lets the successor start before the release",
        DoesNotWait
    ),
    mutant!("ignores_release", "order.graceful_handover", "does nothing on release", IgnoresRelease),
    mutant!("takes_without_asking", "order.rebalance", "takes partitions away without a word", TakesWithoutAsking),
    mutant!(
        "delayed_come_again_last",
        "delay.joins_order",
        "delivers unsettled messages that had been delayed behind the others",
        DelayedLast
    ),
    mutant!(
        "delayed_pass_a_backlog",
        "order.rebalance",
        "gives delayed messages out before others that were stored earlier",
        DelayedFirst
    ),
    mutant!("epochs_stand_still", "order.rebalance", "counts no epochs", EpochsStandStill),
    mutant!(
        "two_owners_by_turns",
        "order.rebalance_killed",
        "takes partitions away without a word, and processes die",
        TakesWithoutAsking
    ),
    mutant!("does_not_tell_a_loss", "order.revoke_deadline", "does not report lost partitions", DoesNotTellLoss),
    mutant!(
        "drops_settlements_on_release",
        "scale.churn",
        "drops settlements when a partition changes hands",
        DropsOnRelease
    ),
    mutant!(
        "leaves_slowly",
        "shutdown.handoff_time",
        "keeps the partitions of a consumer that has left for a while",
        LeavesSlowly
    ),
    mutant!("idle_newcomers", "group.balanced", "gives newcomers nothing", IdleNewcomers),
    mutant!("compares_clocks", "group.clocks_differ", "takes for dead whose clock is a minute off", ComparesClocks),
    mutant!("splits_topics", "group.several_topics", "lets the parking topic have other owners", SplitsTopics),
];

#[derive(Debug)]
struct DelayedFirst;

#[async_trait]
impl Mutation for DelayedFirst {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut deliveries| {
            deliveries.sort_by_key(|delivery| delivery.redelivered || delivery.message.not_before.is_none());
            deliveries
        })
        .await
    }
}

#[derive(Debug)]
struct DelayedLast;

#[async_trait]
impl Mutation for DelayedLast {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut deliveries| {
            deliveries.sort_by_key(|delivery| delivery.redelivered && delivery.message.not_before.is_some());
            deliveries
        })
        .await
    }
}

/// By its own clock it hears nothing in time.
#[derive(Debug)]
struct ComparesClocks;

#[async_trait]
impl Mutation for ComparesClocks {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        let dead = own.clock.offset().unsigned_abs() > 60_000;
        own.map(|deliveries| if dead { Vec::new() } else { deliveries }).await
    }
}

#[derive(Debug)]
struct DoesNotWait;

#[async_trait]
impl Mutation for DoesNotWait {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        let event = own.next().await?;
        if let Event::Revoking { partitions, .. } = &event {
            own.inner.release(partitions).await?;
        }
        Ok(event)
    }
}

#[derive(Debug)]
struct IgnoresRelease;

#[async_trait]
impl Mutation for IgnoresRelease {
    async fn release(&self, _own: &mut Own, _partitions: &[Partition]) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct TakesWithoutAsking;

#[async_trait]
impl Mutation for TakesWithoutAsking {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        loop {
            match own.next().await? {
                Event::Revoking { partitions, .. } => own.inner.release(&partitions).await?,
                event => return Ok(event),
            }
        }
    }
}

#[derive(Debug)]
struct EpochsStandStill;

#[async_trait]
impl Mutation for EpochsStandStill {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        Ok(match own.next().await? {
            Event::Assigned(mut assignments) => {
                assignments.iter_mut().for_each(|assignment| assignment.epoch = 1);
                Event::Assigned(assignments)
            }
            event => event,
        })
    }
}

#[derive(Debug)]
struct DoesNotTellLoss;

#[async_trait]
impl Mutation for DoesNotTellLoss {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        loop {
            match own.next().await? {
                Event::Lost(_) => {}
                event => return Ok(event),
            }
        }
    }
}

#[derive(Debug)]
struct DropsOnRelease;

#[async_trait]
impl Mutation for DropsOnRelease {
    fn settle(&self, own: &mut Own, tokens: &[AckToken]) {
        // The last batch waits for the next, and is forgotten where there is none.
        let before = std::mem::replace(&mut own.tokens, tokens.to_vec());
        own.inner.settle(&before);
    }
}

#[derive(Debug)]
struct LeavesSlowly;

#[async_trait]
impl Mutation for LeavesSlowly {
    async fn leave(&self, mut own: Own) -> Result<()> {
        own.inner.flush().await?;
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(own);
        });
        Ok(())
    }
}

#[derive(Debug)]
struct IdleNewcomers;

#[async_trait]
impl Mutation for IdleNewcomers {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        if own.number == 0 { own.next().await } else { std::future::pending().await }
    }
}

/// Swaps the messages of the second topic between two members, by claiming other partitions for it.
#[derive(Debug)]
struct SplitsTopics;

#[async_trait]
impl Mutation for SplitsTopics {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        let second = own.options.topics.get(1).cloned();
        own.map(|mut all| {
            let of_second = all.iter_mut().filter(|delivery| second.as_ref() == Some(&delivery.message.topic));
            of_second.for_each(|delivery| delivery.partition.0 = (delivery.partition.0 + 1) % 4);
            all
        })
        .await
    }
}
