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

/// How often settled messages are deleted.
const EVERY: Duration = Duration::from_secs(60);

/// Deletes from queues what their one subscription has settled: no time limit does, so that nothing unsettled is lost.
/// Streams have their retention.
pub(super) struct Cleanup {
    core: Weak<Core>,
    runtime: Handle,
    topics: Arc<[Topic]>,
    /// Up to where each partition is settled, and not yet deleted.
    settled: BTreeMap<(usize, u32), Position>,
    /// SubscribedTopics of which it was said that nothing may be deleted.
    said: Arc<Mutex<BTreeSet<String>>>,
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
        Ok(Self { core, runtime, topics: all.into(), settled: BTreeMap::new(), said: Arc::default(), next })
    }

    /// This was committed.
    pub(super) fn committed(&mut self, committed: &PartitionPosition) {
        let PartitionPosition { topic, partition, position } = committed;
        if self.topics.get(*topic).is_some_and(|topic| topic.is_queue) {
            self.settled.insert((*topic, *partition), Position::fresh(position.birth, position.offset));
        }
    }

    /// Begins to delete, when it is time.
    pub(super) fn clean(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        let settled = std::mem::take(&mut self.settled);
        let (topics, said) = (self.topics.clone(), self.said.clone());
        let Some(core) = self.core.upgrade().filter(|_| !settled.is_empty()) else { return };
        self.runtime.spawn(async move { delete(&core, &topics, &settled, &said).await });
    }
}

async fn delete(
    core: &Core,
    topics: &[Topic],
    settled: &BTreeMap<(usize, u32), Position>,
    said: &Mutex<BTreeSet<String>>,
) {
    // In a topic that was made anew a moment ago, these offsets are those of messages that nobody has settled.
    let watched: Vec<Arc<Watched>> = topics.iter().map(|topic| topic.watched.clone()).collect();
    core.topics.look_at_all(&watched).await;
    let mut before = TopicPartitionList::new();
    for ((topic, partition), position) in settled {
        let topic = &topics[*topic].watched;
        if position.offset > 0 && !position.birth.differs(topic.birth()) {
            let mut place = before.add_partition(topic.name(), names::partition(*partition));
            if let Err(error) = place.set_offset(Offset::Offset(position.offset)) {
                tracing::debug!(target: TARGET, %error, "settled messages stay for now");
            }
        }
    }
    let (Ok(admin), true) = (core.client.admin(), before.count() > 0) else { return };
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    match admin.delete_records(&before, &options).await {
        Ok(results) => {
            for element in results.elements() {
                if let Err(error) = element.error() {
                    refused(element.topic(), &error, said);
                }
            }
        }
        Err(error) => tracing::debug!(target: TARGET, %error, "settled messages stay for now"),
    }
}

/// Says once of each topic that it will grow.
fn refused(topic: &str, error: &KafkaError, said: &Mutex<BTreeSet<String>>) {
    let forbidden = error.rdkafka_error_code().is_some_and(|code| error::kind(code) == ErrorKind::Unauthorized);
    if forbidden && said.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned()) {
        let hint = "settled messages are never deleted, and the topic grows without end; grant Delete on it";
        tracing::warn!(target: TARGET, topic, %error, hint);
    } else {
        tracing::debug!(target: TARGET, topic, %error, "settled messages stay for now");
    }
}
