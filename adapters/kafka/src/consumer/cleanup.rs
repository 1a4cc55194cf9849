use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{ErrorKind, TopicKind, TopicName};
use rdkafka::admin::AdminOptions;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use super::progress::PartitionPosition;
use crate::client::REQUEST_TIMEOUT;
use crate::core::Core;
use crate::position::Position;
use crate::watch::Watched;
use crate::{error, names};

/// The interval at which settled messages are deleted.
const EVERY: Duration = Duration::from_secs(60);

/// Deletes settled messages from queues. A queue has no time limit, so that no unsettled message is lost. Streams
/// have their retention.
pub(super) struct Cleanup {
    core: Weak<Core>,
    runtime: Handle,
    topics: Arc<[Topic]>,
    /// The position of each partition whose settled messages are not deleted yet, by topic and partition.
    settled: BTreeMap<(usize, u32), Position>,
    /// Topics for which the missing right to delete has been logged.
    warned: Arc<Mutex<BTreeSet<String>>>,
    next: Instant,
}

struct Topic {
    is_queue: bool,
    watched: Arc<Watched>,
}

impl Cleanup {
    /// Must be called within tokio's runtime.
    pub(super) async fn new(core: &Arc<Core>, topics: &[TopicName]) -> partitura_broker::Result<Self> {
        let mut all = Vec::with_capacity(topics.len());
        for topic in topics {
            let is_queue = core.topics.route(topic).await?.kind == Some(TopicKind::Queue);
            all.push(Topic { is_queue, watched: core.topics.watch(topic.as_str()) });
        }
        let (core, runtime, next) = (Arc::downgrade(core), Handle::current(), Instant::now() + EVERY);
        Ok(Self { core, runtime, topics: all.into(), settled: BTreeMap::new(), warned: Arc::default(), next })
    }

    /// Takes note of a committed position.
    pub(super) fn committed(&mut self, committed: &PartitionPosition) {
        let PartitionPosition { topic, partition, position } = committed;
        if self.topics.get(*topic).is_some_and(|topic| topic.is_queue) {
            self.settled.insert((*topic, *partition), Position::fresh(position.birth, position.offset));
        }
    }

    /// Begins to delete if it is time.
    pub(super) fn clean(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        let settled = std::mem::take(&mut self.settled);
        let (topics, warned) = (self.topics.clone(), self.warned.clone());
        let Some(core) = self.core.upgrade().filter(|_| !settled.is_empty()) else { return };
        self.runtime.spawn(async move { delete(&core, &topics, &settled, &warned).await });
    }
}

async fn delete(
    core: &Core,
    topics: &[Topic],
    settled: &BTreeMap<(usize, u32), Position>,
    warned: &Mutex<BTreeSet<String>>,
) {
    // If the topic was created again a moment ago, unsettled messages have these offsets.
    let watched: Vec<Arc<Watched>> = topics.iter().map(|topic| topic.watched.clone()).collect();
    core.topics.look_at_all(&watched).await;
    let mut before = TopicPartitionList::new();
    for ((topic, partition), position) in settled {
        let topic = &topics[*topic].watched;
        if position.offset > 0 && !position.birth.differs(topic.birth()) {
            let mut place = before.add_partition(topic.name(), names::partition(*partition));
            if let Err(error) = place.set_offset(Offset::Offset(position.offset)) {
                tracing::debug!(target: TARGET, %error, "retrying later to delete settled messages");
            }
        }
    }
    let (Ok(admin), true) = (core.client.admin(), before.count() > 0) else { return };
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    match admin.delete_records(&before, &options).await {
        Ok(results) => {
            for element in results.elements() {
                if let Err(error) = element.error() {
                    refused(element.topic(), &error, warned);
                }
            }
        }
        Err(error) => tracing::debug!(target: TARGET, %error, "retrying later to delete settled messages"),
    }
}

/// Warns once for each topic that it will grow.
fn refused(topic: &str, error: &KafkaError, warned: &Mutex<BTreeSet<String>>) {
    let forbidden = error.rdkafka_error_code().is_some_and(|code| error::kind(code) == ErrorKind::Unauthorized);
    if forbidden && warned.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned()) {
        let hint = "settled messages are never deleted, and the topic grows without end; grant Delete on it";
        tracing::warn!(target: TARGET, topic, %error, hint);
    } else {
        tracing::debug!(target: TARGET, topic, %error, "retrying later to delete settled messages");
    }
}
