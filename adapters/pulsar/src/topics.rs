//! Topics and subscriptions as they were declared, read from the broker.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use partitura_broker::{Error, ErrorKind, Ordering, Partition, Result, SubscriptionName, Topic, TopicKind, TopicName};

use crate::client::{Admin, Partitioned};
use crate::names::Namespace;

/// The properties with the declaration of a topic.
const KIND: &str = "partitura-kind";
const ORDERING: &str = "partitura-ordering";

/// The topics that are known. A topic's properties never change.
#[derive(Debug)]
pub(crate) struct Topics {
    admin: Admin,
    namespace: Namespace,
    known: Mutex<HashMap<TopicName, Topic>>,
}

impl Topics {
    pub(crate) fn new(admin: Admin, namespace: Namespace) -> Self {
        Self { admin, namespace, known: Mutex::default() }
    }

    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The declaration of a topic, if it is known already.
    pub(crate) fn known(&self, name: &TopicName) -> Option<Topic> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The declaration of a topic.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it was not declared.
    pub(crate) async fn find(&self, operation: &'static str, name: &TopicName) -> Result<Topic> {
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
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
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.name.clone(), topic);
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
