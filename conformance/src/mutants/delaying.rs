//! Mutants that delay wrongly.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{ConsumerOptions, Event, Message, Producer, Receipt, Result, Timestamp};

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, Own, wrap};
use super::publishing::publish_some;

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!("delivers_at_once", "delay.never_early", "ignores delays", Shifts(Shift::Drop)),
    mutant!("delivers_early", "delay.never_early", "delivers delayed messages 40 ms early", Shifts(Shift::Earlier(40))),
    mutant!("delivers_late", "delay.accuracy", "delivers delayed messages 1.5 s late", Shifts(Shift::Later(1_500))),
    mutant!("late_under_load", "delay.backlog", "delivers delayed messages 4.5 s late", Shifts(Shift::Later(4_500))),
    mutant!(
        "fires_by_ticks",
        "delay.due_order",
        "delivers messages that are due within 50 ms of each other in the order of publishing",
        Shifts(Shift::Tick(50))
    ),
    mutant!(
        "clamps_delays",
        "delay.over_max",
        "takes a delay beyond the maximum for the maximum",
        Shifts(Shift::Clamp)
    ),
    mutant!("drops_past_due", "delay.past_due", "drops messages that were due before they came", DropsPastDue),
    mutant!(
        "one_timer_a_tick",
        "delay.same_tick",
        "keeps one message for each key and millisecond",
        OneTimerATick(Mutex::default())
    ),
    mutant!(
        "delays_hold_up_their_key",
        "delay.mixed",
        "lets a delayed message hold up its key",
        DelaysHoldUp(Mutex::default())
    ),
    mutant!(
        "drops_unattended_timers",
        "delay.consumer_absent",
        "drops delayed messages while there is no consumer",
        DropsUnattended(AtomicUsize::new(0))
    ),
];

#[derive(Debug)]
enum Shift {
    Drop,
    Earlier(u64),
    Later(u64),
    Tick(u64),
    Clamp,
}

/// Stores another due moment, and gives the right one back on delivery, so that only the clock can tell.
#[derive(Debug)]
struct Shifts(Shift);

/// The header in which the right moment travels.
const DUE: &str = "mutant-due";

#[async_trait]
impl Mutation for Shifts {
    async fn publish(&self, inner: &Arc<dyn Producer>, mut batch: Vec<Message>) -> Vec<Result<Receipt>> {
        const YEAR: u64 = 366 * 24 * 60 * 60 * 1_000;
        let now = crate::client::now();
        for message in &mut batch {
            let Some(due) = message.not_before else { continue };
            message.headers.insert(DUE, due.as_millis().to_string());
            let soon = due.since(now) < Duration::from_secs(60);
            message.not_before = match self.0 {
                Shift::Drop if soon => None,
                Shift::Earlier(by) => Some(Timestamp::from_millis(due.as_millis() - by)),
                Shift::Later(by) => Some(due + Duration::from_millis(by)),
                Shift::Tick(length) => Some(Timestamp::from_millis(due.as_millis().next_multiple_of(length))),
                Shift::Clamp => Some(due.min(now + Duration::from_millis(9 * YEAR))),
                Shift::Drop => Some(due),
            };
        }
        inner.publish(batch).await
    }

    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|mut deliveries| {
            for delivery in &mut deliveries {
                let due = delivery.message.headers.get_str(DUE).and_then(|due| due.parse().ok());
                delivery.message.not_before = due.map(Timestamp::from_millis);
                delivery.message.headers.remove(DUE);
            }
            deliveries
        })
        .await
    }
}

#[derive(Debug)]
struct DropsPastDue;

#[async_trait]
impl Mutation for DropsPastDue {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let now = crate::client::now();
        publish_some(inner, batch, |message| message.not_before.is_none_or(|due| due > now)).await
    }
}

type Timers = HashMap<(Option<Bytes>, Option<Timestamp>), ()>;

#[derive(Debug)]
struct OneTimerATick(Mutex<Timers>);

#[async_trait]
impl Mutation for OneTimerATick {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let fresh = |message: &Message| {
            let mut timers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            message.not_before.is_none() || timers.insert((message.key.clone(), message.not_before), ()).is_none()
        };
        publish_some(inner, batch, fresh).await
    }
}

#[derive(Debug)]
struct DelaysHoldUp(Mutex<HashMap<Option<Bytes>, Timestamp>>);

#[async_trait]
impl Mutation for DelaysHoldUp {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let free = |message: &Message| {
            let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let latest = latest.entry(message.key.clone()).or_default();
            let held_up = message.not_before.unwrap_or_default() < *latest;
            *latest = (*latest).max(message.not_before.unwrap_or_default());
            !held_up
        };
        // A message that is held up by an hour does not come during the case.
        publish_some(inner, batch, free).await
    }
}

/// Counts the consumers.
#[derive(Debug)]
struct DropsUnattended(AtomicUsize);

#[async_trait]
impl Mutation for DropsUnattended {
    fn join(&self, options: ConsumerOptions) -> ConsumerOptions {
        self.0.fetch_add(1, Ordering::Relaxed);
        options
    }

    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let attended = self.0.load(Ordering::Relaxed) > 0;
        publish_some(inner, batch, |message| attended || message.not_before.is_none()).await
    }
}
