//! Mutants that suspect the wrong message, or none, when a process is lost.

use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{Delivery, Event, Message, Producer, Receipt, Result};
use partitura_lanes::headers::SUSPECT;

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, Own, wrap};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(options "never_gives_up_poison", "poison.kills_process", "never gives up a killer", |options| {
        options.crashes(0)
    }),
    mutant!(options "gives_up_poison_too_soon", "poison.kills_process", "gives up at the second crash", |options| {
        options.crashes(2)
    }),
    mutant!(view "forgets_crashes", "poison.kills_process", "forgets the crashes of a message", ForgetsCrashes),
    mutant!(view "counts_deliveries", "poison.kills_process", "counts waiting messages as begun", CountsDeliveries),
    mutant!(view "hides_redeliveries", "poison.kills_process", "hides redeliveries from lanes", HidesRedeliveries),
];

/// The copies of suspects have no note.
#[derive(Debug)]
struct ForgetsCrashes;

#[async_trait]
impl Mutation for ForgetsCrashes {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        batch.iter_mut().for_each(|message| message.headers.remove(SUSPECT));
        inner.publish(batch).await
    }
}

/// A redelivered message counts as begun in each of four crashes before.
#[derive(Debug)]
struct CountsDeliveries;

#[async_trait]
impl Mutation for CountsDeliveries {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut all| {
            for delivery in all.iter_mut().filter(|delivery| delivery.redelivered) {
                delivery.message.headers.insert(SUSPECT, "4 begins");
            }
            all
        })
        .await
    }
}

#[derive(Debug)]
struct HidesRedeliveries;

#[async_trait]
impl Mutation for HidesRedeliveries {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|all| all.into_iter().map(|delivery| Delivery { redelivered: false, ..delivery }).collect()).await
    }
}
