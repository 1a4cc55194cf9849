//! Mutants that an operator's hand leads astray. They run on real brokers.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use partitura_broker::{AckToken, Broker, Event, Result, Topology};

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, Own, wrap};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(
        "settles_by_the_deleted_topic",
        "operator.topic_deleted",
        "takes as many messages of a topic for settled as were settled of the topic that was deleted before it",
        SettlesByTheDeleted(Mutex::default())
    ),
    mutant!(
        "knows_the_first_partitions",
        "operator.partitions_added",
        "hands out nothing from partitions that were added later",
        KnowsTheFirst(Mutex::default())
    ),
    mutant!(
        "settles_for_itself",
        "operator.settled_freed",
        "tells the broker of no settlement, so that it keeps all messages",
        SettlesForItself
    ),
];

/// Found in a real adapter.
#[derive(Debug)]
struct SettlesByTheDeleted(Mutex<Settled>);

#[derive(Debug, Default)]
struct Settled {
    is_declared: bool,
    count: usize,
    /// The number of messages of the new topic to pass over.
    passed_over: usize,
}

#[async_trait]
impl Mutation for SettlesByTheDeleted {
    async fn declare(&self, inner: &dyn Broker, topology: &Topology) -> Result<()> {
        inner.declare(topology).await?;
        let mut settled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if settled.is_declared {
            settled.passed_over = std::mem::take(&mut settled.count);
        }
        settled.is_declared = true;
        Ok(())
    }

    async fn next(&self, own: &mut Own) -> Result<Event> {
        let mut gone = Vec::new();
        let event = own
            .map(|mut deliveries| {
                let mut settled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let count = settled.passed_over.min(deliveries.len());
                settled.passed_over -= count;
                gone.extend(crate::client::tokens(&deliveries[..count]));
                deliveries.split_off(count)
            })
            .await;
        own.inner.settle(&gone);
        event
    }

    fn settle(&self, own: &mut Own, tokens: &[AckToken]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count += tokens.len();
        own.inner.settle(tokens);
    }
}

#[derive(Debug)]
struct SettlesForItself;

impl Mutation for SettlesForItself {
    fn settle(&self, _own: &mut Own, _tokens: &[AckToken]) {}
}

/// The number of partitions of the first topology.
#[derive(Debug)]
struct KnowsTheFirst(Mutex<Option<u32>>);

#[async_trait]
impl Mutation for KnowsTheFirst {
    async fn declare(&self, inner: &dyn Broker, topology: &Topology) -> Result<()> {
        inner.declare(topology).await?;
        let first = topology.topics.first().map(|topic| topic.ordering.partitions());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = known.or(first);
        Ok(())
    }

    async fn next(&self, own: &mut Own) -> Result<Event> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        own.map(|deliveries| {
            let is_known = |partition: u32| known.is_none_or(|known| partition < known);
            deliveries.into_iter().filter(|delivery| is_known(delivery.partition.0)).collect()
        })
        .await
    }
}
