//! Mutants of features that a broker may lack: a twin that adds the feature soundly, and one that only declares it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{
    AckToken, Capabilities, Event, Message, MessageId, Partition, Producer, Receipt, Result, TopicName,
};
use tokio::time::Instant;

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, Own, wrap};
use super::publishing::publish_some;

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(
        twin "stores_again",
        "dedupe.window",
        "forgets within the window which ids it has stored",
        Deduplicates::within(WINDOW),
        Deduplicates::within(Duration::ZERO)
    ),
    mutant!(
        twin "takes_back_too_soon",
        "hold.beyond_timeout",
        "takes back messages that are held for half of the declared time",
        Holds::until(HOLD),
        Holds::until(HOLD / 2)
    ),
    mutant!(
        twin "takes_back_from_the_lanes",
        "hold.slow_handler",
        "takes back messages that are held for a quarter of the declared time",
        HoldsEach::until(HOLD),
        HoldsEach::until(HOLD / 4)
    ),
];

const WINDOW: Duration = Duration::from_secs(60);
const HOLD: Duration = Duration::from_secs(4);

/// Declares a window, and stores the same id once within another.
#[derive(Debug)]
struct Deduplicates {
    window: Duration,
    stored: Mutex<HashMap<(TopicName, MessageId), Instant>>,
}

impl Deduplicates {
    fn within(window: Duration) -> Self {
        Self { window, stored: Mutex::default() }
    }
}

#[async_trait]
impl Mutation for Deduplicates {
    fn capabilities(&self, mut honest: Capabilities) -> Capabilities {
        honest.supports.deduplication = Some(WINDOW);
        honest
    }

    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let is_new = |message: &Message| {
            let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
            let before = stored.insert((message.topic.clone(), message.id.clone()), Instant::now());
            before.is_none_or(|before| before.elapsed() >= self.window)
        };
        publish_some(inner, batch, is_new).await
    }
}

/// Declares a bound, and takes everything back when another has passed since the first delivery.
#[derive(Debug)]
struct Holds {
    bound: Duration,
    /// The first delivery to each consumer.
    since: Mutex<HashMap<u32, Instant>>,
}

impl Holds {
    fn until(bound: Duration) -> Self {
        Self { bound, since: Mutex::default() }
    }
}

#[async_trait]
impl Mutation for Holds {
    fn capabilities(&self, mut honest: Capabilities) -> Capabilities {
        honest.hold = Some(HOLD);
        honest
    }

    async fn next(&self, own: &mut Own) -> Result<Event> {
        let held = own.handed_out.iter().map(|delivery| delivery.partition).collect::<Vec<_>>();
        if held.is_empty() {
            return own.next().await;
        }
        let since = {
            let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            *since.entry(own.number).or_insert_with(Instant::now)
        };
        tokio::select! {
            event = own.next() => event,
            () = tokio::time::sleep_until(since + self.bound) => Ok(Event::Lost(held)),
        }
    }
}

/// Declares a bound, and takes a partition back when one of its messages is held for longer than another.
#[derive(Debug)]
struct HoldsEach {
    bound: Duration,
    /// The messages that each consumer holds.
    held: Mutex<HashMap<(u32, AckToken), (Partition, Instant)>>,
}

impl HoldsEach {
    fn until(bound: Duration) -> Self {
        Self { bound, held: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u32, AckToken), (Partition, Instant)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Mutation for HoldsEach {
    fn capabilities(&self, mut honest: Capabilities) -> Capabilities {
        honest.hold = Some(HOLD);
        honest
    }

    async fn next(&self, own: &mut Own) -> Result<Event> {
        let number = own.number;
        let oldest = {
            let held = self.lock();
            let of_this = held.iter().filter(|((of, _), _)| *of == number).map(|(_, held)| *held);
            of_this.min_by_key(|(_, since)| *since)
        };
        let event = match oldest {
            None => own.next().await?,
            Some((partition, since)) => tokio::select! {
                event = own.next() => event?,
                () = tokio::time::sleep_until(since + self.bound) => Event::Lost(vec![partition]),
            },
        };
        match &event {
            Event::Deliveries(new) => {
                let new = new.iter().map(|new| ((number, new.token), (new.partition, Instant::now())));
                self.lock().extend(new);
            }
            Event::Lost(lost) => {
                self.lock().retain(|(of, _), (partition, _)| *of != number || !lost.contains(partition));
            }
            _ => {}
        }
        Ok(event)
    }

    fn settle(&self, own: &mut Own, tokens: &[AckToken]) {
        let mut held = self.lock();
        held.retain(|(of, token), _| *of != own.number || !tokens.contains(token));
        drop(held);
        own.inner.settle(tokens);
    }
}
