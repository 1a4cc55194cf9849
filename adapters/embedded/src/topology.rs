//! Declaring topics and subscriptions.

use std::sync::Arc;

use partitura_broker::{
    DeclareMode, Error, ErrorKind, Ordering, Result, Subscription, Topic, TopicKind, TopicName, Topology,
};
use rusqlite::{Connection, params};

use crate::error;
use crate::topics::{Catalog, TopicEntry};

impl Catalog {
    /// Adds and writes the missing parts of a valid topology; an error names a difference.
    pub(crate) fn declare(&mut self, topology: &Topology, connection: &Connection) -> Result<()> {
        let verify = topology.mode == DeclareMode::Verify;
        let missing = |what: &str, name: &dyn std::fmt::Display| {
            let message = format!("the {what} does not exist, and was to be verified only");
            Err(Error::new(ErrorKind::NotFound, "declare", message).of(name))
        };
        for topic in &topology.topics {
            match self.topics.get(&topic.name) {
                Some(found) => same_topic(topic, &found.topic)?,
                None if verify => return missing("topic", &topic.name),
                None => self.add_topic(topic, connection)?,
            }
        }
        for subscription in &topology.subscriptions {
            if !self.is_declared(subscription)? {
                if verify {
                    return missing("subscription", &subscription.name);
                }
                self.add_subscription(subscription, connection)?;
            }
        }
        Ok(())
    }

    fn add_topic(&mut self, topic: &Topic, connection: &Connection) -> Result<()> {
        let kind = if topic.kind == TopicKind::Queue { "queue" } else { "stream" };
        let partitions = match topic.ordering {
            Ordering::ByKey { partitions } => Some(partitions),
            Ordering::Shared => None,
        };
        connection
            .execute(
                "INSERT INTO topic (name, kind, partitions) VALUES (?1, ?2, ?3)",
                params![topic.name.as_str(), kind, partitions],
            )
            .map_err(|error| error::from_sqlite("declare", error))?;
        let entry = TopicEntry { id: connection.last_insert_rowid(), topic: topic.clone(), routes: Vec::new() };
        self.topics.insert(topic.name.clone(), Arc::new(entry));
        Ok(())
    }

    /// Whether the subscription exists; an error if another is in its place.
    fn is_declared(&self, subscription: &Subscription) -> Result<bool> {
        let refuse = |kind, message: String| Err(Error::new(kind, "declare", message).of(&subscription.name));
        let mut found = None;
        let mut ordering = None;
        for name in &subscription.topics {
            let entry = self.topic("declare", name)?;
            let first = *ordering.get_or_insert(entry.topic.ordering);
            if first != entry.topic.ordering {
                let message =
                    format!("{name} is {:?}, the first topic {first:?}; topics of one are alike", entry.topic.ordering);
                return refuse(ErrorKind::InvalidArgument, message);
            }
            for route in &entry.routes {
                let group = &self.groups[route.group as usize];
                if group.name == subscription.name {
                    found = Some(group);
                } else if entry.topic.kind == TopicKind::Queue {
                    let message = format!("{name} is a queue and has the subscription {} already", group.name);
                    return refuse(ErrorKind::Incompatible, message);
                }
            }
        }
        let Some(group) = found else { return Ok(false) };
        let covered = |ours: &[TopicName], theirs: &[TopicName]| ours.iter().all(|topic| theirs.contains(topic));
        if !covered(&group.topics, &subscription.topics) || !covered(&subscription.topics, &group.topics) {
            let message = format!("covers {:?}, {:?} were asked for", group.topics, subscription.topics);
            return refuse(ErrorKind::Incompatible, message);
        }
        Ok(true)
    }

    fn add_subscription(&mut self, subscription: &Subscription, connection: &Connection) -> Result<()> {
        let failed = |error| error::from_sqlite("declare", error);
        let query = "INSERT INTO subscription (id, name) VALUES (?1, ?2)";
        connection.execute(query, params![self.groups.len() as i64, subscription.name.as_str()]).map_err(failed)?;
        self.begin_group(&subscription.name);
        let mut topics: Vec<&TopicName> = Vec::new();
        for topic in &subscription.topics {
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        for name in topics {
            let first_queue = self.queues;
            let id = self.topic("declare", name)?.id;
            let query = "INSERT INTO subscription_topic (subscription, topic, first_queue) VALUES (?1, ?2, ?3)";
            connection.execute(query, params![self.groups.len() as i64 - 1, id, first_queue]).map_err(failed)?;
            self.cover(name, first_queue);
        }
        Ok(())
    }
}

fn same_topic(expected: &Topic, found: &Topic) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let describe = |topic: &Topic| match topic.ordering {
        Ordering::ByKey { partitions } => format!("a {:?} with {partitions} partitions", topic.kind),
        Ordering::Shared => format!("a shared {:?}", topic.kind),
    };
    let message = format!(
        "exists and is {}, {} was asked for; the number of partitions and the kind are fixed when a topic is declared",
        describe(found).to_lowercase(),
        describe(expected).to_lowercase()
    );
    Err(Error::new(ErrorKind::Incompatible, "declare", message).of(&expected.name))
}
