//! Knowledge of topics: their kind, their partitions and their durable subscriptions, from the tables.

use partitura_broker::{
    ConsumerOptions, Error, ErrorKind, Ordering, Result, SubscriptionName, Topic, TopicKind, TopicName,
};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::client::Session;
use crate::error;
use crate::wire::Statement;

/// A topic as it was declared, with the names of its durable subscriptions.
#[derive(Debug, Clone)]
pub(crate) struct DeclaredTopic {
    pub(crate) topic: Topic,
    pub(crate) subscriptions: Vec<String>,
}

impl DeclaredTopic {
    /// The query for a topic.
    pub(crate) fn query(name: &TopicName) -> Statement {
        let query = "SELECT kind, partitions, ARRAY (SELECT DISTINCT subscription FROM line
                         WHERE topic = name AND subscription IS NOT NULL) AS subscriptions FROM topic WHERE name = $1";
        sqlx::query(query).bind(name.to_string())
    }

    /// The result of the query.
    pub(crate) fn read(operation: &'static str, name: &TopicName, rows: &[PgRow]) -> Result<Self> {
        let missing =
            || Error::new(ErrorKind::NotFound, operation, "there is no such topic; declare it first").of(name);
        let row = rows.first().ok_or_else(missing)?;
        let read = || {
            let is_queue = row.try_get::<&str, _>("kind")? == "queue";
            let kind = if is_queue { TopicKind::Queue } else { TopicKind::Stream };
            let ordering = match row.try_get::<Option<i32>, _>("partitions")? {
                Some(count) => Ordering::ByKey { partitions: count.cast_unsigned() },
                None => Ordering::Shared,
            };
            let topic = Topic { name: name.clone(), kind, ordering };
            Ok(Self { topic, subscriptions: row.try_get("subscriptions")? })
        };
        read().map_err(|source| error::classify(operation, source).of(name))
    }

    pub(crate) fn has(&self, subscription: &SubscriptionName) -> bool {
        self.subscriptions.iter().any(|declared| declared == subscription.as_str())
    }
}

pub(crate) fn no_subscription(operation: &'static str, name: &SubscriptionName, topic: &TopicName) -> Error {
    let message = format!("{topic} has no such subscription; declare it first");
    Error::new(ErrorKind::NotFound, operation, message).of(name)
}

pub(crate) fn deleted(operation: &'static str, topic: &TopicName) -> Error {
    let message = "the topic was deleted; declare it, and join its subscription again";
    Error::new(ErrorKind::NotFound, operation, message).of(topic)
}

/// Looks the topics of a consumer up, which have the same ordering. Returns one of them.
pub(crate) async fn find_all(session: &Session, options: &ConsumerOptions) -> Result<Topic> {
    let mut topics = Vec::new();
    for name in &options.topics {
        let rows = session.ask("consume", DeclaredTopic::query(name)).arrive().await?;
        let found = DeclaredTopic::read("consume", name, &rows)?;
        if let Some(subscription) = options.subscription.as_ref().filter(|subscription| !found.has(subscription)) {
            return Err(no_subscription("consume", subscription, name));
        }
        topics.push(found.topic);
    }
    let invalid = |message| Error::new(ErrorKind::InvalidArgument, "consume", message);
    let first = topics.pop().ok_or_else(|| invalid("a consumer needs at least one topic"))?;
    if topics.iter().any(|topic| topic.ordering != first.ordering) {
        return Err(invalid("the topics of one subscription must have the same ordering").of(&first.name));
    }
    if options.subscription.is_none() && first.kind == TopicKind::Queue {
        let message = "a queue cannot be broadcast: each of its messages is for one consumer only";
        return Err(invalid(message).of(&first.name));
    }
    Ok(first)
}
