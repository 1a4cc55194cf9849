//! Durable subscriptions: consumer groups with a committed offset for each partition.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use partitura_broker::{DeclareMode, Error, ErrorKind, Result, Subscription, TopicKind, TopicName, Topology};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, DefaultConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::core::Core;
use crate::position::Position;
use crate::topology::PATIENCE;
use crate::{error, names, shared};

/// How long to wait before asking again.
const AGAIN: Duration = Duration::from_millis(50);

/// Gives a subscription its place in each of its topics, where it has none.
///
/// The ends of the topics are read *before* it is looked whether there is a place: so, if two declare at once, neither
/// skips what was published after the other had returned.
pub(crate) async fn declare(core: &Core, subscription: &Subscription, topology: &Topology) -> Result<()> {
    let group = names::group(&subscription.name, &subscription.topics);
    let mut topics = BTreeMap::new();
    for topic in &subscription.topics {
        let route = core.route(topic).await?;
        if route.shared {
            shared::declare(core, topic, &subscription.name, topology.mode).await?;
        }
        topics.insert(topic.to_string(), (route.partitions, route.kind == Some(TopicKind::Queue)));
    }
    let verify = topology.mode == DeclareMode::Verify;
    let config = config(core, &group);
    let task = move || place(&config, &topics, verify);
    let placed = core.blocking("declare", task).await?;
    match placed.map_err(|source| error::error("declare", source).of(&subscription.name))? {
        Found::Everything => Ok(()),
        Found::Missing => Err(missing("declare", &group).of(&subscription.name)),
    }
}

/// Checks that a subscription was declared.
pub(crate) async fn verify(core: &Core, group: &str, topics: &[TopicName]) -> Result<()> {
    let mut all = BTreeMap::new();
    for topic in topics {
        all.insert(topic.to_string(), (core.route(topic).await?.partitions, false));
    }
    let config = config(core, group);
    match core
        .blocking("subscribe", move || place(&config, &all, true))
        .await?
        .map_err(|e| error::error("subscribe", e))?
    {
        Found::Everything => Ok(()),
        Found::Missing => Err(missing("subscribe", group)),
    }
}

/// The offset of a shared topic's subscription.
pub(crate) async fn offset(core: &Core, group: &str, topic: &TopicName) -> Result<i64> {
    let (config, name) = (config(core, group), topic.to_string());
    let read = move || -> KafkaResult<Offset> {
        let consumer: BaseConsumer<DefaultConsumerContext> = config.create()?;
        let committed = once_ready(|| {
            let mut list = TopicPartitionList::new();
            list.add_partition(&name, 0);
            consumer.committed_offsets(list, PATIENCE)
        })?;
        Ok(committed.find_partition(&name, 0).map_or(Offset::Invalid, |place| place.offset()))
    };
    match core.blocking("subscribe", read).await?.map_err(|source| error::error("subscribe", source).of(topic))? {
        Offset::Offset(offset) => Ok(offset),
        _ => Err(missing("subscribe", group)),
    }
}

/// Moves the offset of a shared topic's subscription on. Nobody is a member of its group.
pub(crate) async fn move_to(core: &Core, group: &str, topic: &TopicName, offset: i64) -> Result<()> {
    let (config, name) = (config(core, group), topic.to_string());
    let write = move || -> KafkaResult<()> {
        let consumer: BaseConsumer<DefaultConsumerContext> = config.create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&name, 0, Offset::Offset(offset))?;
        consumer.commit(&list, CommitMode::Sync)
    };
    core.blocking("settle", write).await?.map_err(|source| error::error("settle", source).of(topic))
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

/// Blocks. `topics` say how many partitions there are, and whether everything is promised, or only what comes now.
fn place(config: &ClientConfig, topics: &BTreeMap<String, (u32, bool)>, verify: bool) -> KafkaResult<Found> {
    let consumer: BaseConsumer<DefaultConsumerContext> = config.create()?;
    let mut streams = TopicPartitionList::new();
    for (topic, (partitions, everything)) in topics {
        for partition in 0..number(*partitions) {
            if !everything && !verify {
                streams.add_partition_offset(topic, partition, Offset::End)?;
            }
        }
    }
    let ends = once_ready(|| match streams.count() {
        0 => Ok(TopicPartitionList::new()),
        _ => consumer.offsets_for_times(streams.clone(), PATIENCE),
    })?;
    let committed = once_ready(|| {
        let mut all = TopicPartitionList::new();
        for (topic, (partitions, _)) in topics {
            for partition in 0..number(*partitions) {
                all.add_partition(topic, partition);
            }
        }
        let committed = consumer.committed_offsets(all, PATIENCE)?;
        committed.elements().iter().try_for_each(|element| element.error())?;
        Ok(committed)
    })?;
    let mut missing = TopicPartitionList::new();
    for element in committed.elements() {
        if element.offset() != Offset::Invalid {
            continue;
        }
        let end = ends.find_partition(element.topic(), element.partition()).map(|end| end.offset());
        let start = match end {
            Some(Offset::Offset(end)) => end,
            Some(_) => return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::RequestTimedOut)),
            // Of a queue everything is promised that is still there.
            None => 0,
        };
        let mut place = missing.add_partition(element.topic(), element.partition());
        place.set_offset(Offset::Offset(start))?;
        place.set_metadata(Position::fresh(start).encode());
    }
    if missing.count() == 0 {
        return Ok(Found::Everything);
    }
    if verify {
        return Ok(Found::Missing);
    }
    once_ready(|| consumer.commit(&missing, CommitMode::Sync))?;
    Ok(Found::Everything)
}

/// Asks a coordinator or a leader, which after a start of its broker needs a moment to read what it knows. Blocks.
pub(crate) fn once_ready<T>(ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
    use RDKafkaErrorCode::{
        CoordinatorLoadInProgress, CoordinatorNotAvailable, LeaderNotAvailable, NotCoordinator, NotLeaderForPartition,
        UnknownLeaderEpoch, UnknownTopicOrPartition, WaitingForCoordinator,
    };
    let began = Instant::now();
    loop {
        match ask() {
            Err(error) if began.elapsed() < PATIENCE => match error.rdkafka_error_code() {
                Some(
                    CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator | WaitingForCoordinator
                    // They do not know of a topic that was created a moment ago.
                    | LeaderNotAvailable | NotLeaderForPartition | UnknownLeaderEpoch | UnknownTopicOrPartition,
                ) => std::thread::sleep(AGAIN),
                _ => return Err(error),
            },
            answer => return answer,
        }
    }
}

fn number(partitions: u32) -> i32 {
    i32::try_from(partitions).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_leader_that_does_not_lead_yet_is_asked_again_and_a_refusal_is_not() {
        for (code, asked) in [
            (RDKafkaErrorCode::UnknownLeaderEpoch, 2),
            (RDKafkaErrorCode::UnknownTopicOrPartition, 2),
            (RDKafkaErrorCode::TopicAuthorizationFailed, 1),
        ] {
            let times = Cell::new(0);
            let _ = once_ready(|| {
                times.set(times.get() + 1);
                if times.get() == 1 { Err(KafkaError::MetadataFetch(code)) } else { Ok(()) }
            });
            assert_eq!(times.get(), asked, "{code:?}");
        }
    }
}
