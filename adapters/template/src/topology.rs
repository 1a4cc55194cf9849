//! The tables themselves, and what is declared in them.

use partitura_broker::{
    DeclareMode, Error, ErrorKind, Ordering, Result, Subscription, SubscriptionName, Topic, TopicKind, TopicName,
    Topology,
};
use sqlx::{Connection, Executor, PgConnection};

use crate::error;

/// Held to the end of a transaction that creates something, so that two do not create the same.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('declare ' || $1, 0))";

/// Creates the tables, unless they are there. Any number of processes may do so at once.
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

/// What was declared of a topic.
pub(crate) async fn find(connection: &mut PgConnection, name: &TopicName) -> sqlx::Result<Option<Topic>> {
    let query = "SELECT kind, partitions FROM topic WHERE name = $1";
    let found: Option<(String, Option<i32>)> =
        sqlx::query_as(query).bind(name.as_str()).fetch_optional(connection).await?;
    Ok(found.map(|(kind, partitions)| Topic {
        name: name.clone(),
        kind: if kind == "queue" { TopicKind::Queue } else { TopicKind::Stream },
        ordering: partitions.map_or(Ordering::Shared, |count| Ordering::ByKey { partitions: count.cast_unsigned() }),
    }))
}

/// The durable subscriptions of a topic.
pub(crate) async fn subscriptions(connection: &mut PgConnection, topic: &TopicName) -> sqlx::Result<Vec<String>> {
    let query = "SELECT DISTINCT subscription FROM line WHERE topic = $1 AND subscription IS NOT NULL";
    sqlx::query_scalar(query).bind(topic.as_str()).fetch_all(connection).await
}

pub(crate) fn no_topic(operation: &'static str, name: &TopicName) -> Error {
    Error::new(ErrorKind::NotFound, operation, "there is no such topic; declare it first").of(name)
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
        match find(&mut transaction, &topic.name).await.map_err(failed)? {
            Some(found) => same(topic, &found)?,
            None if create => add_topic(&mut transaction, topic).await.map_err(failed)?,
            None => return Err(no_topic("declare", &topic.name)),
        }
    }
    for subscription in &topology.subscriptions {
        for name in &subscription.topics {
            declare_subscription(&mut transaction, subscription, name, create).await?;
        }
    }
    transaction.commit().await.map_err(failed)
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
    let failed = |source| error::of("declare", source).of(name);
    let found = find(connection, topic).await.map_err(failed)?.ok_or_else(|| no_topic("declare", topic))?;
    if let Some(first) = topics.first().filter(|first| *first != topic)
        && let Some(first) = find(connection, first).await.map_err(failed)?
        && first.ordering != found.ordering
    {
        let message =
            format!("{topic} is {:?}, {} is {:?}; make them alike", found.ordering, first.name, first.ordering);
        return Err(Error::new(ErrorKind::InvalidArgument, "declare", message).of(name));
    }
    let there = subscriptions(connection, topic).await.map_err(failed)?;
    if there.iter().any(|there| there == name.as_str()) {
        return Ok(());
    }
    if !create {
        return Err(no_subscription("declare", name, topic));
    }
    if let (TopicKind::Queue, Some(other)) = (found.kind, there.first()) {
        let message = format!("{topic} is a queue and has the subscription {other} already; a queue has only one");
        return Err(Error::new(ErrorKind::Incompatible, "declare", message).of(name));
    }
    let insert = "INSERT INTO line (topic, subscription, partition) SELECT $1, $2, generate_series(0, $3 - 1)";
    let partitions = found.ordering.partitions().cast_signed();
    let inserted = sqlx::query(insert).bind(topic.as_str()).bind(name.as_str()).bind(partitions).execute(connection);
    inserted.await.map(drop).map_err(failed)
}

/// Says what differs.
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
