//! Mutants that keep what they should give back, or give up what they should keep.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use partitura_broker::{Broker, ConsumerOptions, Credit, Delivery, Event, Inbox, Result};

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, Own, wrap};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!("keeps_inboxes", "inbox.many", "goes on with something for each inbox that is gone", KeepsInboxes),
    mutant!("keeps_consumers", "scale.joins", "goes on with something for each consumer that has left", KeepsConsumers),
    mutant!(
        "keeps_messages",
        "flow.memory",
        "keeps each message that it has handed out, settled or not",
        KeepsMessages(Mutex::default())
    ),
    mutant!("fetches_all", "flow.memory", "fetches whatever there is, without regard to bytes", FetchesAll),
    mutant!(
        "keeps_for_the_quickest",
        "group.slowest",
        "gives up a message of a stream when the first subscription has settled it",
        KeepsForTheQuickest(Mutex::default())
    ),
];

/// A task that never ends.
fn go_on(with: impl Send + 'static) {
    tokio::spawn(async move {
        let _kept = with;
        std::future::pending::<()>().await;
    });
}

#[derive(Debug)]
struct KeepsInboxes;

#[async_trait]
impl Mutation for KeepsInboxes {
    async fn inbox(&self, inner: &dyn Broker) -> Result<Box<dyn Inbox>> {
        let inbox = inner.inbox().await?;
        go_on(inbox.address().clone());
        Ok(inbox)
    }
}

#[derive(Debug)]
struct KeepsConsumers;

#[async_trait]
impl Mutation for KeepsConsumers {
    async fn leave(&self, own: Own) -> Result<()> {
        go_on(own.options.clone());
        own.inner.close().await
    }
}

#[derive(Debug)]
struct KeepsMessages(Mutex<Vec<Delivery>>);

#[async_trait]
impl Mutation for KeepsMessages {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        let event = own.next().await?;
        if let Event::Deliveries(deliveries) = &event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(deliveries.iter().cloned());
        }
        Ok(event)
    }
}

#[derive(Debug)]
struct FetchesAll;

#[async_trait]
impl Mutation for FetchesAll {
    fn join(&self, options: ConsumerOptions) -> ConsumerOptions {
        let all = Credit { messages: NonZeroUsize::MAX, bytes: NonZeroUsize::MAX };
        options.credit(all)
    }
}

/// The topics and ids of messages of which one subscription is rid.
#[derive(Debug)]
struct KeepsForTheQuickest(Mutex<HashSet<(String, String)>>);

#[async_trait]
impl Mutation for KeepsForTheQuickest {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        let mut gone = Vec::new();
        let event = own
            .map(|deliveries| {
                let mut settled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let (new, old): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(|delivery| {
                    let name = (delivery.message.topic.to_string(), delivery.message.id.to_string());
                    settled.insert(name)
                });
                gone.extend(old.iter().map(|delivery| delivery.token));
                new
            })
            .await;
        own.inner.settle(&gone);
        event
    }
}
