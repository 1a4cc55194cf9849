//! The declared topics and subscriptions, as one immutable snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use partitura_broker::{
    DeclareMode, Error, ErrorKind, Message, Ordering, Partition, Result, Subscription, SubscriptionName, Topic,
    TopicKind, TopicName, Topology, partition_of,
};
use rusqlite::{Connection, params};

use crate::failure;

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
    id: i64,
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
            .map_err(|error| failure::storage("declare", error))?;
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
        let failed = |error| failure::storage("declare", error);
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

    fn begin_group(&mut self, name: &SubscriptionName) {
        let entry = GroupEntry { name: name.clone(), topics: Vec::new(), ordering: Ordering::Shared };
        self.groups.push(Arc::new(entry));
    }

    /// Puts a topic under the last group.
    fn cover(&mut self, name: &TopicName, first_queue: u32) {
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
    all().map_err(|error| failure::storage("open", error))
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
