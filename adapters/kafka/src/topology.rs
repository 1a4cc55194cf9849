//! Declares topics and subscriptions.
//!
//! A topic without a [label](crate::route), which another program has created, is taken for the one that is declared.

use std::cmp::Ordering as Order;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{
    DeclareMode, Error, ErrorKind, Result, SubscriptionName, Topic, TopicKind, TopicName, Topology,
};
use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use crate::core::Core;
use crate::new_log::{self, NewLog};
use crate::record::MAX_RECORD;
use crate::route::{Route, label};
use crate::topics::PAUSE;
use crate::{birth, error, names, subscription};

const MAX_BYTES: &str = "max.message.bytes";
const RETENTION: &str = "retention.ms";

/// The longest time that creating topics may take. It is more work than other requests.
const CREATE_TIMEOUT: Duration = Duration::from_secs(30);

/// Creates or verifies all topics and subscriptions.
pub(crate) async fn declare(core: &Core, topology: &Topology) -> Result<()> {
    topology.validate()?;
    if topology.mode == DeclareMode::Create {
        create(core, &topology.topics).await?;
    }
    let began = Instant::now();
    for topic in &topology.topics {
        // Some brokers may not know a topic yet that was created a moment ago.
        let limit = if topology.mode == DeclareMode::Create { CREATE_TIMEOUT } else { Duration::ZERO };
        let mut grown = None;
        loop {
            let Err(error) = verify(core, topic).await else { break };
            let again = match error.kind() {
                ErrorKind::NotFound => true,
                ErrorKind::Incompatible if grown.is_none() && !limit.is_zero() => {
                    *grown.insert(grow(core, topology, topic).await?)
                }
                ErrorKind::Incompatible => grown == Some(true),
                _ => false,
            };
            if again && began.elapsed() >= limit && error.kind() == ErrorKind::NotFound && !limit.is_zero() {
                return Err(not_known_yet(&topic.name, error));
            }
            if !again || began.elapsed() >= limit {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    for subscription in &topology.subscriptions {
        for topic in &subscription.topics {
            if core.topics.route(topic).await?.shared {
                declare_claims(core, topic, &subscription.name, topology.mode).await?;
            }
        }
        subscription::declare(core, subscription, topology.mode).await?;
    }
    Ok(())
}

/// Creates, or verifies, the log in which the members of a shared subscription claim messages.
async fn declare_claims(
    core: &Core,
    topic: &TopicName,
    subscription: &SubscriptionName,
    mode: DeclareMode,
) -> Result<()> {
    let log = names::claims(topic, subscription);
    if mode == DeclareMode::Verify {
        return core.topics.partitions(&log).await.map(drop).map_err(|error| error.of(&log));
    }
    let replication = core.target().options.replication.map_or(-1, i32::from);
    let (largest, birth) = (MAX_RECORD.to_string(), birth::labelled(0));
    let new = NewTopic::new(&log, 1, TopicReplication::Fixed(replication))
        .set("cleanup.policy", "delete")
        .set("retention.ms", "-1")
        .set("max.message.bytes", &largest)
        .set(birth.name, &birth.value);
    create_all(core, &[new]).await?;
    created(core, &log).await.map(drop)
}

async fn create(core: &Core, topics: &[Topic]) -> Result<()> {
    if topics.is_empty() {
        return Ok(());
    }
    let replication = core.target().options.replication.map_or(-1, i32::from);
    let retention = core.target().retention().as_millis().to_string();
    let largest = MAX_RECORD.to_string();
    let births: Vec<_> = topics.iter().map(|topic| (birth::labelled(label(topic)), birth::compacted())).collect();
    let timers: Vec<String> = topics.iter().map(|topic| names::timers(&topic.name)).collect();
    let mut all = Vec::with_capacity(2 * topics.len());
    for ((topic, (label, birth)), timers) in topics.iter().zip(&births).zip(&timers) {
        let partitions = i32::try_from(topic.ordering.partitions()).unwrap_or(i32::MAX);
        let new = |name| NewTopic::new(name, partitions, TopicReplication::Fixed(replication)).set(MAX_BYTES, &largest);
        let kept = if topic.kind == TopicKind::Queue { "-1" } else { &retention };
        all.push(
            new(topic.name.as_str()).set("cleanup.policy", "delete").set(RETENTION, kept).set(label.name, &label.value),
        );
        all.push(compacted(new(timers)).set(birth.name, &birth.value));
    }
    create_all(core, &all).await
}

/// A topic that is compacted often enough that reading it from the beginning stays cheap.
fn compacted(topic: NewTopic<'_>) -> NewTopic<'_> {
    topic
        .set("cleanup.policy", "compact")
        .set("segment.ms", "3600000")
        .set("segment.bytes", "33554432")
        .set("min.cleanable.dirty.ratio", "0.2")
        .set("delete.retention.ms", "3600000")
}

/// Creates those of the topics that do not exist. When this returns, records for them can no longer get into the logs
/// of deleted topics of the same names.
pub(crate) async fn create_all(core: &Core, topics: &[NewTopic<'_>]) -> Result<()> {
    let options = AdminOptions::new().operation_timeout(Some(CREATE_TIMEOUT)).request_timeout(Some(CREATE_TIMEOUT));
    let created = core.client.admin()?.create_topics(topics, &options).await;
    let created = created.map_err(|source| error::error("declare", source))?;
    let new_logs = || core.new_logs.lock().unwrap_or_else(PoisonError::into_inner);
    for new in
        topics.iter().filter(|new| created.iter().any(|created| matches!(created, Ok(name) if *name == new.name)))
    {
        new_logs().insert(new.name.to_owned(), NewLog::new(new));
    }
    for (name, code) in created.into_iter().filter_map(Result::err) {
        match code {
            RDKafkaErrorCode::TopicAlreadyExists => {}
            RDKafkaErrorCode::InvalidTopic => {
                let text = "Kafka refuses the name; names that differ only in . and _ cannot both exist";
                return Err(Error::new(ErrorKind::InvalidArgument, "declare", text).of(name));
            }
            code => return Err(error::refused("declare", code).of(name)),
        }
    }
    // Also those that were created by an earlier call, which did not wait to the end.
    let new: Vec<NewLog> = topics.iter().filter_map(|topic| new_logs().get(topic.name).cloned()).collect();
    if new.is_empty() {
        return Ok(());
    }
    new_log::wait(&core.client, new).await?;
    let producer = core.client.producer()?;
    for topic in topics {
        if new_logs().remove(topic.name).is_some() {
            producer.created_again(topic.name);
        }
    }
    Ok(())
}

/// Adds partitions where an operator has added some to the leading topic: to the topic of delayed messages, and to
/// a topic that is not the first of its subscription. Returns whether it added any. A topic that follows no other
/// is not changed, since its keys would change their partitions.
async fn grow(core: &Core, topology: &Topology, topic: &Topic) -> Result<bool> {
    let (wanted, timers) = (topic.ordering.partitions(), names::timers(&topic.name));
    let count = async |name: &str| core.topics.partitions(name).await.map(|count| count.cmp(&wanted));
    let mut lacking = Vec::new();
    match count(topic.name.as_str()).await? {
        Order::Greater => return Ok(false),
        Order::Equal => {}
        Order::Less => {
            let led = topology.subscriptions.iter().filter(|subscription| subscription.topics.contains(&topic.name));
            let leader = led.filter_map(|subscription| subscription.topics.first()).find(|first| **first != topic.name);
            match leader {
                Some(leader) if count(leader.as_str()).await? == Order::Equal => lacking.push(topic.name.as_str()),
                _ => return Ok(false),
            }
        }
    }
    if count(&timers).await? == Order::Less {
        lacking.push(&timers);
    }
    if lacking.is_empty() {
        return Ok(false);
    }
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let new: Vec<NewPartitions<'_>> = lacking.iter().map(|name| NewPartitions::new(name, wanted)).collect();
    let options = AdminOptions::new().operation_timeout(Some(CREATE_TIMEOUT)).request_timeout(Some(CREATE_TIMEOUT));
    let created = core.client.admin()?.create_partitions(&new, &options).await;
    for result in created.map_err(|source| error::error("declare", source))? {
        let name = result.map_err(|(name, code)| error::refused("declare", code).of(name))?;
        tracing::warn!(target: TARGET, topic = name, partitions = wanted, "partitions were added to the topic");
    }
    Ok(true)
}

/// Compares the existing topic with the declared one.
async fn verify(core: &Core, topic: &Topic) -> Result<()> {
    let route = core.topics.look_up(&topic.name).await?;
    let differs = |what: &str, expected: String, found: String| {
        let text = format!("{what}: {expected} expected, {found} found; use another name, or migrate the topic");
        Err(Error::new(ErrorKind::Incompatible, "declare", text).of(&topic.name))
    };
    let expected = Route::declared(topic);
    if route.kind.is_some_and(|kind| Some(kind) != expected.kind) {
        return differs("its kind", format!("{:?}", topic.kind), format!("{:?}", route.kind));
    }
    if route.kind.is_some() && route.shared != expected.shared {
        let ordering = |shared| if shared { "Shared".to_owned() } else { "ByKey".to_owned() };
        return differs("its ordering", ordering(expected.shared), ordering(route.shared));
    }
    if route.partitions != expected.partitions {
        return differs("partitions", expected.partitions.to_string(), route.partitions.to_string());
    }
    let timers = core.topics.partitions(&expected.timers).await.map_err(|error| error.of(&expected.timers))?;
    if timers != expected.partitions {
        return differs("partitions for delayed messages", expected.partitions.to_string(), timers.to_string());
    }
    let config = core.topics.describe(topic.name.as_str()).await?;
    let number = |name: &str| config.as_ref()?.get(name)?.value.as_ref()?.parse::<i64>().ok();
    if number(MAX_BYTES).is_some_and(|bytes| bytes < MAX_RECORD as i64) {
        return differs(MAX_BYTES, format!("at least {MAX_RECORD}"), format!("{:?}", number(MAX_BYTES)));
    }
    if topic.kind == TopicKind::Queue && number(RETENTION).is_some_and(|retention| retention != -1) {
        return differs(RETENTION, "-1 (a queue loses nothing by time)".into(), format!("{:?}", number(RETENTION)));
    }
    core.topics.remember(&topic.name, expected);
    Ok(())
}

/// The number of partitions of a topic that was created a moment ago, which some brokers may not know yet.
pub(crate) async fn created(core: &Core, topic: &str) -> Result<u32> {
    let began = Instant::now();
    loop {
        match core.topics.partitions(topic).await {
            Err(error) if error.kind() == ErrorKind::NotFound && began.elapsed() < CREATE_TIMEOUT => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(not_known_yet(topic, error)),
            found => return found,
        }
    }
}

/// The error for a topic that was created, and that the brokers do not know after a long time: it may be tried again.
fn not_known_yet(topic: impl std::fmt::Display, error: Error) -> Error {
    let text = format!("the topic was created, and after {CREATE_TIMEOUT:?} the brokers do not know it yet");
    Error::new(ErrorKind::Timeout, "declare", text).of(topic).because(error)
}
