//! The declared topics and subscriptions, as one immutable snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use partitura_broker::{
    Error, ErrorKind, Message, Ordering, Partition, Result, SubscriptionName, Topic, TopicKind, TopicName, partition_of,
};
use rusqlite::Connection;

use crate::error;

/// All declarations. It is replaced as a whole, and only grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    pub(crate) topics: HashMap<TopicName, Arc<TopicEntry>>,
    /// The position is the number.
    pub(crate) groups: Vec<Arc<GroupEntry>>,
    /// The number of queues.
    pub(crate) queues: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct TopicEntry {
    pub(crate) id: i64,
    pub(crate) topic: Topic,
    /// One for each durable subscription.
    pub(crate) routes: Vec<Route>,
}

/// The queues for the messages of a topic in one subscription: `first_queue` + partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) group: u32,
    pub(crate) first_queue: u32,
}

/// A durable subscription.
#[derive(Debug)]
pub(crate) struct GroupEntry {
    pub(crate) name: SubscriptionName,
    pub(crate) topics: Vec<TopicName>,
    pub(crate) ordering: Ordering,
}

impl TopicEntry {
    pub(crate) fn partition(&self, message: &Message, keyless: u32) -> Partition {
        let partitions = self.topic.ordering.partitions();
        message.key.as_ref().map_or(Partition(keyless % partitions.max(1)), |key| partition_of(key, partitions))
    }
}

impl Catalog {
    pub(crate) fn topic(&self, operation: &'static str, name: &TopicName) -> Result<&Arc<TopicEntry>> {
        self.topics.get(name).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, operation, "the topic was not declared; declare it first").of(name)
        })
    }

    /// The place to which a message of this topic is published.
    pub(crate) fn target(&self, name: &TopicName) -> Result<&Arc<TopicEntry>> {
        let entry = self.topic("publish", name)?;
        if entry.topic.kind == TopicKind::Queue && entry.routes.is_empty() {
            let message =
                "the queue has no subscription yet, so no consumer could receive it; declare one with the topic";
            return Err(Error::new(ErrorKind::NotFound, "publish", message).of(name));
        }
        Ok(entry)
    }

    /// The subscription of that name over exactly these topics.
    pub(crate) fn group(&self, name: &SubscriptionName, topics: &[TopicName]) -> Result<u32> {
        let error = |kind, message: String| Err(Error::new(kind, "consume", message).of(name));
        let Some(first) = topics.first() else {
            return error(ErrorKind::InvalidArgument, "a consumer needs at least one topic".into());
        };
        let entry = self.topic("consume", first)?;
        let found = entry.routes.iter().find(|route| self.groups[route.group as usize].name == *name);
        let Some(route) = found else {
            return error(ErrorKind::NotFound, format!("{first} has no subscription of this name; declare it first"));
        };
        let group = &self.groups[route.group as usize];
        if topics.iter().any(|topic| !group.topics.contains(topic)) || group.topics.iter().any(|t| !topics.contains(t))
        {
            let message = format!(
                "the subscription covers {:?}, {topics:?} were asked for; name all of them, for they are owned together",
                group.topics
            );
            return error(ErrorKind::InvalidArgument, message);
        }
        Ok(route.group)
    }

    pub(crate) fn begin_group(&mut self, name: &SubscriptionName) {
        let entry = GroupEntry { name: name.clone(), topics: Vec::new(), ordering: Ordering::Shared };
        self.groups.push(Arc::new(entry));
    }

    /// Puts a topic under the last group.
    pub(crate) fn cover(&mut self, name: &TopicName, first_queue: u32) {
        let group = self.groups.len() as u32 - 1;
        if let (Some(topic), Some(entry)) = (self.topics.get_mut(name), self.groups.last_mut()) {
            let ordering = topic.topic.ordering;
            self.queues = self.queues.max(first_queue + ordering.partitions());
            Arc::make_mut(topic).routes.push(Route { group, first_queue });
            let topics = entry.topics.iter().cloned().chain([name.clone()]).collect();
            *entry = Arc::new(GroupEntry { name: entry.name.clone(), topics, ordering });
        }
    }

    /// The content of a file.
    pub(crate) fn load(connection: &Connection) -> Result<Self> {
        let damaged = || Error::new(ErrorKind::Corrupt, "open", "the list of topics is damaged; restore a backup");
        let mut catalog = Self::default();
        let mut names = HashMap::new();
        for (id, name, kind, partitions) in rows(connection, "SELECT id, name, kind, partitions FROM topic", |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, Option<u32>>(3)?,
            ))
        })? {
            let name = TopicName::new(name).map_err(|_| damaged())?;
            let kind = if kind == "queue" { TopicKind::Queue } else { TopicKind::Stream };
            let ordering = partitions.map_or(Ordering::Shared, |partitions| Ordering::ByKey { partitions });
            let topic = Topic { name: name.clone(), kind, ordering };
            names.insert(id, name.clone());
            catalog.topics.insert(name, Arc::new(TopicEntry { id, topic, routes: Vec::new() }));
        }
        let subscriptions = "SELECT s.id, s.name, t.topic, t.first_queue FROM subscription s
                             JOIN subscription_topic t ON t.subscription = s.id ORDER BY s.id, t.first_queue";
        for (id, name, topic, first_queue) in rows(connection, subscriptions, |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, u32>(3)?))
        })? {
            if id as usize == catalog.groups.len() {
                catalog.begin_group(&SubscriptionName::new(name).map_err(|_| damaged())?);
            }
            if id as usize + 1 != catalog.groups.len() {
                return Err(damaged());
            }
            catalog.cover(names.get(&topic).ok_or_else(damaged)?, first_queue);
        }
        Ok(catalog)
    }
}

fn rows<T>(
    connection: &Connection,
    query: &str,
    row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let all = || connection.prepare(query)?.query_map([], row)?.collect::<rusqlite::Result<Vec<T>>>();
    all().map_err(|error| error::from_sqlite("open", error))
}
