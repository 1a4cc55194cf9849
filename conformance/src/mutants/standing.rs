//! Mutants of brokers with several processes, of which one stands still, dies or is far away. They run on real brokers.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use partitura_broker::{
    Broker, Error, Event, Inbox, InboxAddress, Message, Partition, Producer, Receipt, Result, Timestamp,
};

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, Own, wrap};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(
        "settles_what_comes_again",
        "order.owner_frozen",
        "settles messages that come again, and hands out only new ones",
        SettlesAgain
    ),
    mutant!(
        "delays_in_the_publisher",
        "delay.process_killed",
        "keeps delayed messages in the process that publishes them",
        DelaysInThePublisher
    ),
    mutant!(
        "delays_in_a_frozen_publisher",
        "delay.process_frozen",
        "sends delayed messages from the process that has published them",
        DelaysInThePublisher
    ),
    mutant!(
        "replies_to_its_own_process",
        "inbox.processes",
        "replies to the inboxes of its own process, and to no other",
        RepliesAtHome(Mutex::default())
    ),
    mutant!(
        "confirms_while_frozen",
        "reconnect.frozen",
        "confirms messages before the broker has answered",
        ConfirmsAtOnce
    ),
    mutant!(
        "confirms_while_blocked",
        "flow.blocked_broker",
        "confirms messages that the broker has not taken",
        ConfirmsAtOnce
    ),
    mutant!("publishes_again_and_again", "confirm.copies", "publishes each message four times", PublishesFourTimes),
];

#[derive(Debug)]
struct SettlesAgain;

#[async_trait]
impl Mutation for SettlesAgain {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        let mut again = Vec::new();
        let event = own
            .map(|deliveries| {
                let (old, new): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(|delivery| delivery.redelivered);
                again.extend(old.iter().map(|delivery| delivery.token));
                new
            })
            .await;
        own.inner.settle(&again);
        event
    }
}

#[derive(Debug)]
struct DelaysInThePublisher;

#[async_trait]
impl Mutation for DelaysInThePublisher {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let (delayed, others): (Vec<_>, Vec<_>) =
            batch.iter().cloned().partition(|message| message.not_before.is_some());
        let mut results = inner.publish(others).await.into_iter();
        let answer = |message: &Message| match message.not_before {
            Some(_) => Ok(Receipt { partition: Partition(0) }),
            None => results.next().expect("a result for each message"),
        };
        let answers = batch.iter().map(answer).collect();
        for message in delayed {
            let inner = inner.clone();
            tokio::spawn(async move {
                let now = Timestamp::from(std::time::SystemTime::now());
                let due = message.not_before.map_or(0, Timestamp::as_millis);
                tokio::time::sleep(std::time::Duration::from_millis(due.saturating_sub(now.as_millis()))).await;
                inner.publish(vec![message]).await
            });
        }
        answers
    }
}

#[derive(Debug)]
struct RepliesAtHome(Mutex<HashSet<String>>);

#[async_trait]
impl Mutation for RepliesAtHome {
    async fn inbox(&self, inner: &dyn Broker) -> Result<Box<dyn Inbox>> {
        let inbox = inner.inbox().await?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(inbox.address().as_str().to_owned());
        Ok(inbox)
    }

    async fn reply(&self, inner: &Arc<dyn Producer>, mut replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        {
            let own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            replies.retain(|(address, _)| own.contains(address.as_str()));
        }
        inner.reply(replies).await
    }
}

#[derive(Debug)]
struct ConfirmsAtOnce;

#[async_trait]
impl Mutation for ConfirmsAtOnce {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let answers = batch.iter().map(|_| Ok(Receipt { partition: Partition(0) })).collect();
        let inner = inner.clone();
        tokio::spawn(async move { inner.publish(batch).await });
        answers
    }
}

#[derive(Debug)]
struct PublishesFourTimes;

#[async_trait]
impl Mutation for PublishesFourTimes {
    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let mut results: Vec<Result<Receipt, Error>> = inner.publish(batch.clone()).await;
        for _ in 1..4 {
            results = inner.publish(batch.clone()).await;
        }
        results
    }
}
