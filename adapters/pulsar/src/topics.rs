//! Topics and subscriptions as they were declared, read from the broker.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Ordering, Partition, Result, SubscriptionName, Topic, TopicKind, TopicName};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::client::{Admin, Partitioned};
use crate::names::Namespace;

/// The properties with the declaration of a topic.
const KIND: &str = "partitura-kind";
const ORDERING: &str = "partitura-ordering";

/// The interval at which the known topics are read again: that of Pulsar's own clients.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// The topics that are known. An operator may give one more partitions, or delete it and make another of its name.
#[derive(Debug)]
pub(crate) struct Topics {
    admin: Admin,
    namespace: Namespace,
    known: watch::Sender<HashMap<TopicName, Topic>>,
}

impl Topics {
    pub(crate) fn new(admin: Admin, namespace: Namespace) -> Self {
        Self { admin, namespace, known: watch::Sender::default() }
    }

    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The declaration of a topic, if it is known already.
    pub(crate) fn known(&self, name: &TopicName) -> Option<Topic> {
        self.known.borrow().get(name).cloned()
    }

    /// The declaration of a topic.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it was not declared.
    pub(crate) async fn find(&self, operation: &'static str, name: &TopicName) -> Result<Topic> {
        match self.known(name) {
            Some(known) => Ok(known),
            None => self.look_up(operation, name).await,
        }
    }

    /// The declaration of a topic as it is now. As [`find`](Self::find).
    pub(crate) async fn look_up(&self, operation: &'static str, name: &TopicName) -> Result<Topic> {
        let found = self.admin.partitioned(operation, &self.namespace.topic(name)).await?;
        let found = found.ok_or_else(|| missing(operation, name))?;
        let topic = read(operation, name, &found)?;
        self.remember(topic.clone());
        Ok(topic)
    }

    /// Checks that a subscription was declared.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it was not.
    pub(crate) async fn find_subscription(
        &self,
        operation: &'static str,
        topic: &TopicName,
        subscription: &SubscriptionName,
    ) -> Result<()> {
        let name = self.namespace.topic(topic).partition(Partition(0));
        match self.admin.has_subscription(operation, &name, subscription.as_str()).await? {
            true => Ok(()),
            false => {
                let message = format!("there is no subscription {subscription}; declare it first");
                Err(Error::new(ErrorKind::NotFound, operation, message).of(topic))
            }
        }
    }

    pub(crate) fn remember(&self, topic: Topic) {
        self.known.send_if_modified(|known| known.insert(topic.name.clone(), topic.clone()).as_ref() != Some(&topic));
    }

    /// Waits until each of these topics has more partitions than `count`, and returns the least number.
    pub(crate) async fn grown(&self, topics: &[TopicName], count: u32) -> u32 {
        let least = |known: &HashMap<TopicName, Topic>| {
            let partitions = |topic: &Topic| match topic.ordering {
                Ordering::ByKey { partitions } => Some(partitions),
                Ordering::Shared => None,
            };
            topics.iter().filter_map(|name| known.get(name).and_then(partitions)).min()
        };
        let mut known = self.known.subscribe();
        // The sender is part of `self`, so it exists.
        let grown = known.wait_for(|known| least(known) > Some(count)).await;
        grown.ok().and_then(|known| least(&known)).unwrap_or(count)
    }
}

/// Reads the known topics again now and then, for as long as they are used.
pub(crate) async fn follow(topics: Weak<Topics>) {
    loop {
        sleep(READ_AGAIN).await;
        let names: Vec<_> = match topics.upgrade() {
            Some(topics) => topics.known.borrow().keys().cloned().collect(),
            None => return,
        };
        for name in names {
            let Some(topics) = topics.upgrade() else { return };
            // A topic that is gone is missed by those who use it. Another error passes.
            if let Err(error) = topics.look_up("look for more partitions", &name).await {
                tracing::debug!(%error, "looking at the topic again in a while");
            }
        }
    }
}

pub(crate) fn missing(operation: &'static str, topic: &TopicName) -> Error {
    Error::new(ErrorKind::NotFound, operation, "there is no such topic; declare it first").of(topic)
}

pub(crate) fn properties(topic: &Topic) -> Partitioned {
    let kind = match topic.kind {
        TopicKind::Queue => "queue",
        TopicKind::Stream => "stream",
    };
    let ordering = match topic.ordering {
        Ordering::ByKey { .. } => "key",
        Ordering::Shared => "shared",
    };
    let properties = [(KIND, kind), (ORDERING, ordering)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Partitioned { partitions: topic.ordering.partitions(), properties: properties.into() }
}

/// Reads the declaration of a topic.
pub(crate) fn read(operation: &'static str, name: &TopicName, found: &Partitioned) -> Result<Topic> {
    let property = |property: &str| found.properties.get(property).map(String::as_str);
    let kind = match property(KIND) {
        Some("queue") => Some(TopicKind::Queue),
        Some("stream") => Some(TopicKind::Stream),
        _ => None,
    };
    let ordering = match property(ORDERING) {
        Some("key") => Some(Ordering::ByKey { partitions: found.partitions }),
        Some("shared") => Some(Ordering::Shared),
        _ => None,
    };
    let (Some(kind), Some(ordering)) = (kind, ordering) else {
        let message = format!(
            "the topic was not declared by Partitura; its properties should say {KIND}=queue or stream, and \
             {ORDERING}=key or shared, and are {:?}",
            found.properties
        );
        return Err(Error::new(ErrorKind::Incompatible, operation, message).of(name));
    };
    Ok(Topic { name: name.clone(), kind, ordering })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(kind: TopicKind, ordering: Ordering) -> Topic {
        Topic { name: TopicName::new("orders").expect("a name"), kind, ordering }
    }

    #[test]
    fn the_properties_of_a_topic_are_its_declaration() {
        for kind in [TopicKind::Queue, TopicKind::Stream] {
            for ordering in [Ordering::Shared, Ordering::ByKey { partitions: 1 }, Ordering::ByKey { partitions: 8 }] {
                let topic = topic(kind, ordering);
                assert_eq!(read("declare", &topic.name, &properties(&topic)).expect("a declaration"), topic);
            }
        }
    }
}
