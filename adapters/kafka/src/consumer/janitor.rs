use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{TopicKind, TopicName};
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use crate::core::Core;
use crate::topology::PATIENCE;

/// How often settled messages are deleted.
const EVERY: Duration = Duration::from_secs(60);

/// Deletes from queues what their one subscription has settled: no time limit does, so that nothing unsettled is lost.
/// Streams have their retention.
pub(super) struct Janitor {
    core: std::sync::Weak<Core>,
    runtime: Handle,
    /// Whether each of the topics is a queue.
    queues: Vec<bool>,
    /// Up to where each partition is settled, and not yet deleted.
    settled: HashMap<(usize, u32), i64>,
    next: Instant,
}

impl Janitor {
    /// Must be called within tokio's runtime.
    pub(super) async fn new(core: &Arc<Core>, topics: &[TopicName]) -> partitura_broker::Result<Self> {
        let mut queues = Vec::with_capacity(topics.len());
        for topic in topics {
            queues.push(core.route(topic).await?.kind == Some(TopicKind::Queue));
        }
        let (core, runtime, next) = (Arc::downgrade(core), Handle::current(), Instant::now() + EVERY);
        Ok(Self { core, runtime, queues, settled: HashMap::new(), next })
    }

    /// This was committed.
    pub(super) fn committed(&mut self, topic: usize, partition: u32, offset: i64) {
        if self.queues.get(topic).is_some_and(|queue| *queue) {
            self.settled.insert((topic, partition), offset);
        }
    }

    /// Begins to delete, when it is time.
    pub(super) fn clean(&mut self, topics: &[TopicName]) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        let mut before = TopicPartitionList::new();
        for ((topic, partition), offset) in self.settled.drain().filter(|(_, offset)| *offset > 0) {
            let (name, partition) = (topics[topic].as_str(), i32::try_from(partition).unwrap_or(i32::MAX));
            if let Err(error) = before.add_partition_offset(name, partition, Offset::Offset(offset)) {
                tracing::debug!(target: TARGET, %error, "settled messages stay for now");
            }
        }
        let admin = self.core.upgrade().and_then(|core| core.admin().ok());
        let (Some(admin), true) = (admin, before.count() > 0) else { return };
        self.runtime.spawn(async move {
            let options = AdminOptions::new().request_timeout(Some(PATIENCE));
            if let Err(error) = admin.delete_records(&before, &options).await {
                tracing::debug!(target: TARGET, %error, "settled messages stay for now");
            }
        });
    }
}
