//! Mutants that blame the wrong message, or none, when a process ends.

use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{Delivery, Event, Message, Producer, Receipt, Result};
use partitura_lanes::headers::SUSPECT;

use super::twist::{Own, Twist, wrap};
use super::{Mutant, mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(view "forgets_crashes", "poison.kills_process", "forgets with what a process ended", ForgetsCrashes),
    mutant!(view "counts_deliveries", "poison.kills_process", "blames what was delivered and not begun", Blames),
    mutant!(options "never_gives_up_poison", "poison.kills_process", "never gives up what ends its process", |options| {
        options.crashes(0)
    }),
    mutant!("hides_redeliveries", "poison.kills_process", "does not say that a message comes again", SaysNothing),
];

/// What is put back has no note.
#[derive(Debug)]
struct ForgetsCrashes;

#[async_trait]
impl Twist for ForgetsCrashes {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        batch.iter_mut().for_each(|message| message.headers.remove(SUSPECT));
        inner.publish(batch).await
    }
}

/// Each delivery that is repeated counts as a crash.
#[derive(Debug)]
struct Blames;

#[async_trait]
impl Twist for Blames {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut all| {
            for delivery in all.iter_mut().filter(|delivery| delivery.redelivered) {
                delivery.message.headers.insert(SUSPECT, "4");
            }
            all
        })
        .await
    }
}

#[derive(Debug)]
struct SaysNothing;

#[async_trait]
impl Twist for SaysNothing {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|all| all.into_iter().map(|delivery| Delivery { redelivered: false, ..delivery }).collect()).await
    }
}
