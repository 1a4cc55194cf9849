//! Declaring topics and subscriptions, and finding out what a topic is.
//!
//! A topic's configuration has no room for anything of ours. So its *label*, kind and ordering, is in the value of
//! `min.compaction.lag.ms`, which means nothing to a topic that is not compacted and which is written with the topic in
//! one step. The rest of that number tells the topic from others of its name: `birth`. A topic without a label (another program made it) is taken for what is declared.

use std::cmp::Ordering as Order;
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{DeclareMode, Error, ErrorKind, Ordering, Result, Topic, TopicKind, TopicName, Topology};
use rdkafka::admin::{AdminOptions, ConfigResource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use crate::birth::{self, LABEL};
use crate::core::Core;
use crate::outgoing::Reports;
use crate::{error, names, subscription};

/// The largest batch of records: one message of a megabyte, with its key, headers and what Kafka adds.
pub(crate) const MAX_RECORD: usize = 2 << 20;

const MAX_BYTES: &str = "max.message.bytes";
const RETENTION: &str = "retention.ms";

/// How long a request to the brokers may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long creating topics may take, which is more work than answering.
const CREATE: Duration = Duration::from_secs(30);

/// How long to wait before looking again.
const AGAIN: Duration = Duration::from_millis(20);

/// What a producer or a consumer has to know of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) partitions: u32,
    pub(crate) shared: bool,
    /// `None` where nobody wrote it down.
    pub(crate) kind: Option<TopicKind>,
    /// Where its delayed messages wait.
    pub(crate) timers: String,
}

impl Route {
    fn of(topic: &Topic) -> Self {
        Self {
            partitions: topic.ordering.partitions(),
            shared: topic.ordering == Ordering::Shared,
            kind: Some(topic.kind),
            timers: names::timers(&topic.name),
        }
    }
}

/// Creates or verifies everything.
pub(crate) async fn declare(core: &Core, topology: &Topology) -> Result<()> {
    topology.validate()?;
    if topology.mode == DeclareMode::Create {
        create(core, &topology.topics).await?;
    }
    let began = Instant::now();
    for topic in &topology.topics {
        // What was created a moment ago is not known to every broker yet.
        let patience = if topology.mode == DeclareMode::Create { CREATE } else { Duration::ZERO };
        let mut grown = None;
        loop {
            let Err(error) = verify(core, topic).await else { break };
            let again = match error.kind() {
                ErrorKind::NotFound => true,
                ErrorKind::Incompatible if grown.is_none() && !patience.is_zero() => {
                    *grown.insert(grow(core, topology, topic).await?)
                }
                ErrorKind::Incompatible => grown == Some(true),
                _ => false,
            };
            if !again || began.elapsed() >= patience {
                return Err(error);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
    for subscription in &topology.subscriptions {
        subscription::declare(core, subscription, topology).await?;
    }
    Ok(())
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
    for ((topic, ((name, label), birth)), timers) in topics.iter().zip(&births).zip(&timers) {
        let partitions = i32::try_from(topic.ordering.partitions()).unwrap_or(i32::MAX);
        let new = |name| NewTopic::new(name, partitions, TopicReplication::Fixed(replication)).set(MAX_BYTES, &largest);
        let kept = if topic.kind == TopicKind::Queue { "-1" } else { &retention };
        all.push(new(topic.name.as_str()).set("cleanup.policy", "delete").set(RETENTION, kept).set(name, label));
        all.push(compacted(new(timers)).set(birth.0, &birth.1));
    }
    create_all(core, &all).await
}

/// Kept by key, and tidied up often enough that reading it from the beginning stays cheap.
fn compacted(topic: NewTopic<'_>) -> NewTopic<'_> {
    topic
        .set("cleanup.policy", "compact")
        .set("segment.ms", "3600000")
        .set("segment.bytes", "33554432")
        .set("min.cleanable.dirty.ratio", "0.2")
        .set("delete.retention.ms", "3600000")
}

/// Creates topics that are not there yet.
pub(crate) async fn create_all(core: &Core, topics: &[NewTopic<'_>]) -> Result<()> {
    let options = AdminOptions::new().operation_timeout(Some(CREATE)).request_timeout(Some(CREATE));
    let made = core.admin()?.create_topics(topics, &options).await.map_err(|source| error::error("declare", source))?;
    for result in made {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, RDKafkaErrorCode::InvalidTopic)) => {
                let text = "Kafka refuses the name; names that differ only in . and _ cannot both exist";
                return Err(Error::new(ErrorKind::InvalidArgument, "declare", text).of(name));
            }
            Err((name, code)) => return Err(error::refused("declare", code).of(name)),
        }
    }
    Ok(())
}

/// Gives a topic the partitions that an operator gave to the one that it follows: its own timers, and where it is not the
/// first of a subscription's topics, itself. Whether it did. A topic that follows none is not touched: its keys would change
/// their partitions.
async fn grow(core: &Core, topology: &Topology, topic: &Topic) -> Result<bool> {
    let (wanted, timers) = (topic.ordering.partitions(), names::timers(&topic.name));
    let count = async |name: &str| partitions(core, name).await.map(|count| count.cmp(&wanted));
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
    let options = AdminOptions::new().operation_timeout(Some(CREATE)).request_timeout(Some(CREATE));
    let made =
        core.admin()?.create_partitions(&new, &options).await.map_err(|source| error::error("declare", source))?;
    for result in made {
        let name = result.map_err(|(name, code)| error::refused("declare", code).of(name))?;
        tracing::warn!(target: TARGET, topic = name, partitions = wanted, "the topic was given more partitions");
    }
    Ok(true)
}

/// Compares what exists with what is asked for.
async fn verify(core: &Core, topic: &Topic) -> Result<()> {
    let route = look_up(core, &topic.name).await?;
    let differs = |what: &str, expected: String, found: String| {
        let text = format!("{what}: {expected} expected, {found} found; use another name, or migrate the topic");
        Err(Error::new(ErrorKind::Incompatible, "declare", text).of(&topic.name))
    };
    let expected = Route::of(topic);
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
    let timers = partitions(core, &expected.timers).await.map_err(|error| error.of(&expected.timers))?;
    if timers != expected.partitions {
        return differs("partitions of its timers", expected.partitions.to_string(), timers.to_string());
    }
    let config = describe(core, topic.name.as_str()).await?;
    let number = |name: &str| config.as_ref()?.get(name)?.value.as_ref()?.parse::<i64>().ok();
    if number(MAX_BYTES).is_some_and(|bytes| bytes < MAX_RECORD as i64) {
        return differs(MAX_BYTES, format!("at least {MAX_RECORD}"), format!("{:?}", number(MAX_BYTES)));
    }
    if topic.kind == TopicKind::Queue && number(RETENTION).is_some_and(|retention| retention != -1) {
        return differs(RETENTION, "-1 (a queue loses nothing by time)".into(), format!("{:?}", number(RETENTION)));
    }
    core.remember(&topic.name, expected);
    Ok(())
}

/// Finds out what a topic is, from the brokers.
///
/// # Errors
/// `NotFound` where it does not exist; those of the connection.
pub(crate) async fn look_up(core: &Core, topic: &TopicName) -> Result<Route> {
    let partitions = partitions(core, topic.as_str()).await.map_err(|error| error.of(topic))?;
    let config = describe(core, topic.as_str()).await?;
    let label = config.and_then(|config| config.get(LABEL)?.value.as_ref()?.parse::<u64>().ok());
    let (kind, shared) = label.map_or((None, false), read_label);
    Ok(Route { partitions, shared, kind, timers: names::timers(topic) })
}

fn label(topic: &Topic) -> u8 {
    match (topic.kind, topic.ordering) {
        (TopicKind::Queue, Ordering::ByKey { .. }) => 1,
        (TopicKind::Stream, Ordering::ByKey { .. }) => 2,
        (TopicKind::Queue, Ordering::Shared) => 3,
        (TopicKind::Stream, Ordering::Shared) => 4,
    }
}

fn read_label(label: u64) -> (Option<TopicKind>, bool) {
    match birth::label(label) {
        1 => (Some(TopicKind::Queue), false),
        2 => (Some(TopicKind::Stream), false),
        3 => (Some(TopicKind::Queue), true),
        4 => (Some(TopicKind::Stream), true),
        _ => (None, false),
    }
}

async fn describe(core: &Core, topic: &str) -> Result<Option<ConfigResource>> {
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let described = core.admin()?.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
    let described = described.map_err(|source| error::error("declare", source).of(topic))?;
    // Who may not read the configuration still may use the topic: then there is no label.
    Ok(described.into_iter().next().and_then(|resource| resource.ok()))
}

/// The number of partitions, once all of them have a leader.
pub(crate) async fn partitions(core: &Core, topic: &str) -> Result<u32> {
    let began = Instant::now();
    loop {
        let name = topic.to_owned();
        let ask =
            move |client: &Client<Reports>| client.fetch_metadata(Some(&name), PATIENCE).map(|all| count(&all, &name));
        match core.ask("look up", ask).await? {
            Ok(Some(count)) => return Ok(count),
            Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                return Err(Error::new(ErrorKind::NotFound, "look up", "no such topic; declare it first"));
            }
            Err(code) if code != RDKafkaErrorCode::LeaderNotAvailable => return Err(error::refused("look up", code)),
            _ if began.elapsed() > PATIENCE => {
                return Err(Error::new(ErrorKind::Disconnected, "look up", "a partition has no leader"));
            }
            _ => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// The same of a topic that was created a moment ago, which not every broker knows yet.
pub(crate) async fn created(core: &Core, topic: &str) -> Result<u32> {
    let began = Instant::now();
    loop {
        match partitions(core, topic).await {
            Err(error) if error.kind() == ErrorKind::NotFound && began.elapsed() < CREATE => {
                tokio::time::sleep(AGAIN).await;
            }
            found => return found,
        }
    }
}

/// How many partitions a topic has; none while one of them has no leader.
fn count(metadata: &Metadata, topic: &str) -> Result<Option<u32>, RDKafkaErrorCode> {
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or(RDKafkaErrorCode::UnknownTopic)?;
    if let Some(error) = found.error() {
        return Err(error.into());
    }
    let led = found.partitions().iter().all(|partition| partition.leader() >= 0);
    Ok(led.then(|| u32::try_from(found.partitions().len()).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_kind_and_ordering_and_a_strangers_says_nothing() {
        for kind in [TopicKind::Queue, TopicKind::Stream] {
            for ordering in [Ordering::Shared, Ordering::ByKey { partitions: 3 }] {
                let topic = Topic { name: TopicName::new("t").expect("a valid name"), kind, ordering };
                let (_, labelled) = birth::labelled(label(&topic));
                for written in [u64::from(label(&topic)), labelled.parse().expect("a number")] {
                    assert_eq!(read_label(written), (Some(kind), ordering == Ordering::Shared));
                }
            }
        }
        assert_eq!(read_label(0), (None, false));
    }
}
