//! Durable subscriptions: consumer groups with a committed offset for each partition.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use partitura_broker::{DeclareMode, Error, ErrorKind, Result, Subscription, TopicKind, TopicName};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, DefaultConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::birth::Birth;
use crate::client::REQUEST_TIMEOUT;
use crate::core::Core;
use crate::position::Position;
use crate::ready::{PAUSE, once_ready};
use crate::{error, names};

/// The time in which the members of a group take up a topic that was created again. They have to notice it first.
const RETRY_FOR: Duration = Duration::from_secs(60);

/// Gives a subscription a place in each of its topics in which it has none.
///
/// The ends of the topics are read *before* the committed places. So, if two callers declare at the same time,
/// neither skips messages that were published after the other call had returned.
pub(crate) async fn declare(core: &Core, subscription: &Subscription, mode: DeclareMode) -> Result<()> {
    let group = names::group(&subscription.name, &subscription.topics);
    let topics = promised(core, &subscription.topics).await?;
    let verify = mode == DeclareMode::Verify;
    let config = config(core, &group);
    let task = move || place(&config, &topics, verify);
    let placed = core.client.blocking("declare", task).await?;
    match placed.map_err(|source| error::error("declare", source).of(&subscription.name))? {
        Found::Everything => Ok(()),
        Found::Missing => Err(missing("declare", &group).of(&subscription.name)),
    }
}

/// Checks that a subscription was declared.
pub(crate) async fn verify(core: &Core, group: &str, topics: &[TopicName]) -> Result<()> {
    let all = promised(core, topics).await?;
    let config = config(core, group);
    let placed = core.client.blocking("subscribe", move || place(&config, &all, true)).await?;
    match placed.map_err(|source| error::error("subscribe", source))? {
        Found::Everything => Ok(()),
        Found::Missing => Err(missing("subscribe", group)),
    }
}

/// The promise for each topic, by name.
type Promises = BTreeMap<String, Promised>;

struct Promised {
    partitions: u32,
    /// Whether the subscription gets all existing messages, or only those that come from now on.
    everything: bool,
    birth: Birth,
}

async fn promised(core: &Core, topics: &[TopicName]) -> Result<Promises> {
    let names: Vec<&str> = topics.iter().map(TopicName::as_str).collect();
    let births = core.topics.births("declare", &names, REQUEST_TIMEOUT).await?;
    let mut all = Promises::new();
    for topic in topics {
        let route = core.topics.route(topic).await?;
        let birth = births.get(topic.as_str()).copied().unwrap_or(Birth::UNKNOWN);
        let everything = route.kind == Some(TopicKind::Queue);
        all.insert(topic.to_string(), Promised { partitions: route.partitions, everything, birth });
    }
    Ok(all)
}

/// The offset of a shared topic's subscription.
pub(crate) async fn offset(core: &Core, group: &str, topic: &TopicName, birth: Birth) -> Result<i64> {
    let (config, name) = (config(core, group), topic.to_string());
    let read = move || -> KafkaResult<Option<Position>> {
        let consumer: BaseConsumer<DefaultConsumerContext> = config.create()?;
        let committed = once_ready(|| {
            let mut list = TopicPartitionList::new();
            list.add_partition(&name, 0);
            consumer.committed_offsets(list, REQUEST_TIMEOUT)
        })?;
        Ok(committed.find_partition(&name, 0).and_then(|place| position(&place)))
    };
    let committed = core.client.blocking("subscribe", read).await?;
    match committed.map_err(|source| error::error("subscribe", source).of(topic))? {
        // Of a topic that was created again, all existing messages are promised.
        Some(position) if position.birth.differs(birth) => Ok(0),
        Some(position) => Ok(position.offset),
        None => Err(missing("subscribe", group)),
    }
}

/// The committed position, if there is one.
fn position(place: &TopicPartitionListElem<'_>) -> Option<Position> {
    match place.offset() {
        Offset::Offset(offset) => Some(Position::decode(offset, place.metadata())),
        _ => None,
    }
}

/// Moves the offset of a shared topic's subscription forward. Its group has no members.
pub(crate) async fn move_to(core: &Core, group: &str, topic: &TopicName, position: Position) -> Result<()> {
    let (config, name) = (config(core, group), topic.to_string());
    let write = move || -> KafkaResult<()> {
        let consumer: BaseConsumer<DefaultConsumerContext> = config.create()?;
        let mut list = TopicPartitionList::new();
        let mut place = list.add_partition(&name, 0);
        place.set_offset(Offset::Offset(position.offset))?;
        place.set_metadata(position.encode());
        consumer.commit(&list, CommitMode::Sync)
    };
    core.client.blocking("settle", write).await?.map_err(|source| error::error("settle", source).of(topic))
}

fn missing(operation: &'static str, group: &str) -> Error {
    let text = format!("the consumer group {group} has no offset for some partition; declare the subscription first");
    Error::new(ErrorKind::NotFound, operation, text)
}

fn config(core: &Core, group: &str) -> ClientConfig {
    let mut config = core.target().config();
    config.set("group.id", group).set("enable.auto.commit", "false");
    core.target().finish(config)
}

enum Found {
    Everything,
    Missing,
}

/// Commits a place for all partitions that have none. Blocks.
///
/// If a group has members, Kafka accepts commits from them alone. Members of a group without a place belong to a
/// topic that was created again. They commit a place themselves as soon as they notice.
fn place(config: &ClientConfig, topics: &Promises, verify: bool) -> KafkaResult<Found> {
    let consumer: BaseConsumer<DefaultConsumerContext> = config.create()?;
    let began = Instant::now();
    loop {
        let missing = lacking(&consumer, topics, verify)?;
        if missing.count() == 0 {
            return Ok(Found::Everything);
        }
        if verify {
            return Ok(Found::Missing);
        }
        match once_ready(|| consumer.commit(&missing, CommitMode::Sync)) {
            Ok(()) => return Ok(Found::Everything),
            Err(error) if has_members(&error) && began.elapsed() < RETRY_FOR => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
}

fn has_members(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{IllegalGeneration, RebalanceInProgress, UnknownMemberId};
    matches!(error.rdkafka_error_code(), Some(UnknownMemberId | IllegalGeneration | RebalanceInProgress))
}

/// The missing places, to be committed. The ends are read first: see [`declare`].
fn lacking(
    consumer: &BaseConsumer<DefaultConsumerContext>,
    topics: &Promises,
    verify: bool,
) -> KafkaResult<TopicPartitionList> {
    let mut streams = TopicPartitionList::new();
    let mut all = TopicPartitionList::new();
    for (topic, promised) in topics {
        for partition in 0..names::partition(promised.partitions) {
            all.add_partition(topic, partition);
            if !promised.everything && !verify {
                streams.add_partition_offset(topic, partition, Offset::End)?;
            }
        }
    }
    let ends = once_ready(|| match streams.count() {
        0 => Ok(TopicPartitionList::new()),
        _ => consumer.offsets_for_times(streams.clone(), REQUEST_TIMEOUT),
    })?;
    let committed = once_ready(|| {
        let committed = consumer.committed_offsets(all.clone(), REQUEST_TIMEOUT)?;
        committed.elements().iter().try_for_each(|element| element.error())?;
        Ok(committed)
    })?;
    let is_placed = |element: &TopicPartitionListElem<'_>| {
        let birth = topics.get(element.topic()).map_or(Birth::UNKNOWN, |promised| promised.birth);
        // Verifying does not decide about a place in an earlier topic of this name: the consumers find it void.
        position(element).is_some_and(|position| verify || !position.birth.differs(birth))
    };
    let mut missing = TopicPartitionList::new();
    for (topic, promised) in topics {
        let all = committed.elements_for_topic(topic);
        // A partition without a place beside others that have one was added later. All messages in it are promised.
        let is_declared = all.iter().any(is_placed);
        for element in all.iter().filter(|element| !(is_placed(element) || verify && is_declared)) {
            let end = ends.find_partition(topic, element.partition()).map(|end| end.offset());
            let start = match end.filter(|_| !is_declared) {
                Some(Offset::Offset(end)) => end,
                Some(_) => return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::RequestTimedOut)),
                // Of a queue all existing messages are promised.
                None => 0,
            };
            let mut place = missing.add_partition(topic, element.partition());
            place.set_offset(Offset::Offset(start))?;
            place.set_metadata(Position::fresh(promised.birth, start).encode());
        }
    }
    Ok(missing)
}
