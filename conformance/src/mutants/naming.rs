//! Mutants that take one name for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use partitura_broker::{
    Broker, ConsumerOptions, Inbox, InboxAddress, Message, Producer, Receipt, Result, TopicName, Topology,
};

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, wrap};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(
        "joins_names_by_dots",
        "name.derived",
        "takes two pairs of names that are one when they are joined by dots for the same",
        JoinsByDots
    ),
    mutant!("cuts_names", "name.derived", "takes long names for the same that begin alike", CutsNames),
    mutant!(
        "replies_to_topics",
        "inbox.forged",
        "publishes a reply to the topic that its address names",
        RepliesToTopics
    ),
    mutant!("counts_inboxes", "inbox.secret", "numbers its inboxes", CountsInboxes(AtomicU32::new(0))),
];

fn renamed(topic: &TopicName, rename: fn(&str) -> String) -> TopicName {
    TopicName::new(rename(topic.as_str())).unwrap_or_else(|_| topic.clone())
}

async fn declare(inner: &dyn Broker, topology: &Topology, rename: fn(&str) -> String) -> Result<()> {
    let mut topology = topology.clone();
    topology.topics.iter_mut().for_each(|topic| topic.name = renamed(&topic.name, rename));
    let covered = topology.subscriptions.iter_mut().flat_map(|subscription| &mut subscription.topics);
    covered.for_each(|topic| *topic = renamed(topic, rename));
    inner.declare(&topology).await
}

fn join(mut options: ConsumerOptions, rename: fn(&str) -> String) -> ConsumerOptions {
    options.topics.iter_mut().for_each(|topic| *topic = renamed(topic, rename));
    options
}

async fn publish(
    inner: &Arc<dyn Producer>,
    mut batch: Vec<Message>,
    rename: fn(&str) -> String,
) -> Vec<Result<Receipt>> {
    batch.iter_mut().for_each(|message| message.topic = renamed(&message.topic, rename));
    inner.publish(batch).await
}

#[derive(Debug)]
struct JoinsByDots;

fn by_dots(name: &str) -> String {
    name.replace("._", ".")
}

#[async_trait]
impl Mutation for JoinsByDots {
    async fn declare(&self, inner: &dyn Broker, topology: &Topology) -> Result<()> {
        declare(inner, topology, by_dots).await
    }

    fn join(&self, options: ConsumerOptions) -> ConsumerOptions {
        join(options, by_dots)
    }

    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        publish(inner, batch, by_dots).await
    }
}

#[derive(Debug)]
struct CutsNames;

fn cut(name: &str) -> String {
    let (begin, end) = name.split_at(name.len().min(100));
    let last = end.rsplit_once('.').map_or("", |(_, last)| last);
    if last.is_empty() { name.to_owned() } else { format!("{begin}.{last}") }
}

#[async_trait]
impl Mutation for CutsNames {
    async fn declare(&self, inner: &dyn Broker, topology: &Topology) -> Result<()> {
        declare(inner, topology, cut).await
    }

    fn join(&self, options: ConsumerOptions) -> ConsumerOptions {
        join(options, cut)
    }

    async fn publish(&self, inner: &Arc<dyn Producer>, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        publish(inner, batch, cut).await
    }
}

#[derive(Debug)]
struct RepliesToTopics;

#[async_trait]
impl Mutation for RepliesToTopics {
    async fn reply(&self, inner: &Arc<dyn Producer>, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        for (address, message) in &replies {
            if let Ok(topic) = TopicName::new(address.as_str()) {
                inner.publish(vec![Message { topic, ..message.clone() }]).await;
            }
        }
        inner.reply(replies).await
    }
}

#[derive(Debug)]
struct CountsInboxes(AtomicU32);

#[derive(Debug)]
struct Numbered(InboxAddress, Box<dyn Inbox>);

#[async_trait]
impl Inbox for Numbered {
    fn address(&self) -> &InboxAddress {
        &self.0
    }

    async fn next(&mut self) -> Result<Message> {
        self.1.next().await
    }
}

#[async_trait]
impl Mutation for CountsInboxes {
    async fn inbox(&self, inner: &dyn Broker) -> Result<Box<dyn Inbox>> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Numbered(InboxAddress::new(format!("inbox-{number}")), inner.inbox().await?)))
    }
}
