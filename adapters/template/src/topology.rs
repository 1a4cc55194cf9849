//! The tables, and the declared topics in them.

use partitura_broker::{
    DeclareMode, Error, ErrorKind, Ordering, Result, Subscription, SubscriptionName, Topic, TopicKind, TopicName,
    Topology,
};
use sqlx::postgres::PgRow;
use sqlx::{Connection, Executor, PgConnection, Row};

use crate::error;
use crate::session::Statement;

/// The lock is held to the end of a transaction that creates something, so that two do not create the same.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('declare ' || $1, 0))";

/// Creates missing tables. Any number of processes may do so at once.
pub(crate) async fn prepare(connection: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
    if are_there(connection, schema).await? {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    sqlx::query(LOCK).bind(schema).execute(&mut *transaction).await?;
    if !are_there(&mut transaction, schema).await? {
        let create = format!("CREATE SCHEMA IF NOT EXISTS {schema}; {}", include_str!("schema.sql"));
        transaction.execute(&*create).await?;
    }
    transaction.commit().await
}

async fn are_there(connection: &mut PgConnection, schema: &str) -> sqlx::Result<bool> {
    let query = "SELECT to_regclass($1 || '.message') IS NOT NULL";
    sqlx::query_scalar(query).bind(schema).fetch_one(connection).await
}

/// A topic as it was declared, with the names of its durable subscriptions.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) topic: Topic,
    pub(crate) subscriptions: Vec<String>,
}

impl Found {
    /// The query for it.
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
        read().map_err(|source| error::of(operation, source).of(name))
    }

    pub(crate) fn has(&self, subscription: &SubscriptionName) -> bool {
        self.subscriptions.iter().any(|there| there == subscription.as_str())
    }
}

pub(crate) fn no_subscription(operation: &'static str, name: &SubscriptionName, topic: &TopicName) -> Error {
    let message = format!("{topic} has no such subscription; declare it first");
    Error::new(ErrorKind::NotFound, operation, message).of(name)
}

/// Declares all of it, or nothing.
pub(crate) async fn declare(connection: &mut PgConnection, schema: &str, topology: &Topology) -> Result<()> {
    topology.validate()?;
    let failed = |source| error::of("declare", source);
    let create = topology.mode == DeclareMode::Create;
    let mut transaction = connection.begin().await.map_err(failed)?;
    sqlx::query(LOCK).bind(schema).execute(&mut *transaction).await.map_err(failed)?;
    for topic in &topology.topics {
        match find(&mut transaction, &topic.name).await {
            Ok(found) => same(topic, &found.topic)?,
            Err(error) if error.kind() == ErrorKind::NotFound && create => {
                add_topic(&mut transaction, topic).await.map_err(failed)?;
            }
            Err(error) => return Err(error),
        }
    }
    for subscription in &topology.subscriptions {
        for topic in &subscription.topics {
            declare_subscription(&mut transaction, subscription, topic, create).await?;
        }
    }
    transaction.commit().await.map_err(failed)
}

async fn find(connection: &mut PgConnection, name: &TopicName) -> Result<Found> {
    let rows = Found::query(name).fetch_all(connection).await;
    Found::read("declare", name, &rows.map_err(|source| error::of("declare", source).of(name))?)
}

async fn add_topic(connection: &mut PgConnection, topic: &Topic) -> sqlx::Result<()> {
    let kind = if topic.kind == TopicKind::Queue { "queue" } else { "stream" };
    let partitions = match topic.ordering {
        Ordering::ByKey { partitions } => Some(partitions.cast_signed()),
        Ordering::Shared => None,
    };
    let insert = "INSERT INTO topic (name, kind, partitions) VALUES ($1, $2, $3)";
    sqlx::query(insert).bind(topic.name.as_str()).bind(kind).bind(partitions).execute(connection).await?;
    Ok(())
}

async fn declare_subscription(
    connection: &mut PgConnection,
    Subscription { name, topics }: &Subscription,
    topic: &TopicName,
    create: bool,
) -> Result<()> {
    let refuse = |kind, message| Err(Error::new(kind, "declare", message).of(name));
    let found = find(connection, topic).await?;
    let is_there = found.has(name);
    let Found { topic: found, subscriptions } = found;
    if let Some(first) = topics.first().filter(|first| *first != topic) {
        let first = find(connection, first).await?.topic;
        if first.ordering != found.ordering {
            let (a, b) = (found.ordering, first.ordering);
            let message = format!("{topic} is {a:?}, {} is {b:?}; topics of one subscription are alike", first.name);
            return refuse(ErrorKind::InvalidArgument, message);
        }
    }
    match subscriptions.first() {
        _ if is_there => return Ok(()),
        _ if !create => return Err(no_subscription("declare", name, topic)),
        Some(other) if found.kind == TopicKind::Queue => {
            let message = format!("{topic} is a queue and has the subscription {other} already; a queue has only one");
            return refuse(ErrorKind::Incompatible, message);
        }
        _ => {}
    }
    let insert = "INSERT INTO line (topic, subscription, partition) SELECT $1, $2, generate_series(0, $3 - 1)";
    let partitions = found.ordering.partitions().cast_signed();
    let inserted = sqlx::query(insert).bind(topic.as_str()).bind(name.as_str()).bind(partitions).execute(connection);
    inserted.await.map(drop).map_err(|source| error::of("declare", source).of(name))
}

/// Checks that both are the same; else the error names the difference.
fn same(asked: &Topic, found: &Topic) -> Result<()> {
    if asked == found {
        return Ok(());
    }
    let describe = |topic: &Topic| match topic.ordering {
        Ordering::ByKey { partitions } => format!("a {:?} with {partitions} partitions", topic.kind).to_lowercase(),
        Ordering::Shared => format!("a shared {:?}", topic.kind).to_lowercase(),
    };
    let message = format!("exists as {}, {} was asked for; use another name", describe(found), describe(asked));
    Err(Error::new(ErrorKind::Incompatible, "declare", message).of(&asked.name))
}
