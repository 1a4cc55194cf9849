//! Creates the tables, and declares topics and subscriptions: missing ones are created, existing ones are compared.

use partitura_broker::{
    DeclareMode, Error, ErrorKind, Ordering, Result, Subscription, Topic, TopicKind, TopicName, Topology,
};
use sqlx::{Connection, Executor, PgConnection};

use crate::error;
use crate::topics::{DeclaredTopic, no_subscription};

/// Held to the end of a transaction that creates something, so that two processes do not create the same.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('declare ' || $1, 0))";

/// Creates missing tables. Any number of processes may do so at once.
pub(crate) async fn prepare(connection: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
    if have_tables(connection, schema).await? {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    sqlx::query(LOCK).bind(schema).execute(&mut *transaction).await?;
    if !have_tables(&mut transaction, schema).await? {
        let create = format!("CREATE SCHEMA IF NOT EXISTS {schema}; {}", include_str!("schema.sql"));
        transaction.execute(&*create).await?;
    }
    transaction.commit().await
}

async fn have_tables(connection: &mut PgConnection, schema: &str) -> sqlx::Result<bool> {
    let query = "SELECT to_regclass($1 || '.message') IS NOT NULL";
    sqlx::query_scalar(query).bind(schema).fetch_one(connection).await
}

/// Declares all of a topology, or nothing of it.
pub(crate) async fn declare(connection: &mut PgConnection, schema: &str, topology: &Topology) -> Result<()> {
    topology.validate()?;
    let failed = |source| error::classify("declare", source);
    let create = topology.mode == DeclareMode::Create;
    let mut transaction = connection.begin().await.map_err(failed)?;
    sqlx::query(LOCK).bind(schema).execute(&mut *transaction).await.map_err(failed)?;
    for topic in &topology.topics {
        match find(&mut transaction, &topic.name).await {
            Ok(found) => compare(topic, &found.topic)?,
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

async fn find(connection: &mut PgConnection, name: &TopicName) -> Result<DeclaredTopic> {
    let rows = DeclaredTopic::query(name).fetch_all(connection).await;
    DeclaredTopic::read("declare", name, &rows.map_err(|source| error::classify("declare", source).of(name))?)
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
    let exists = found.has(name);
    let DeclaredTopic { topic: found, subscriptions } = found;
    if let Some(first) = topics.first().filter(|first| *first != topic) {
        let first = find(connection, first).await?.topic;
        if first.ordering != found.ordering {
            let (a, b) = (found.ordering, first.ordering);
            let message = format!("{topic} is {a:?}, {} is {b:?}; topics of one subscription are alike", first.name);
            return refuse(ErrorKind::InvalidArgument, message);
        }
    }
    match subscriptions.first() {
        _ if exists => return Ok(()),
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
    inserted.await.map(drop).map_err(|source| error::classify("declare", source).of(name))
}

/// Checks that both are the same. The error names the difference.
fn compare(asked: &Topic, found: &Topic) -> Result<()> {
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
