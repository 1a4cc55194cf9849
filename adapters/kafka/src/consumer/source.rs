use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use partitura_broker::TopicName;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaResult;
use tokio::sync::Notify;

use crate::callbacks::Callbacks;
use crate::wire::{self, Stored};

/// What librdkafka fetches of one partition of one topic, in a queue of its own.
///
/// It is the only place where messages wait: they are read when somebody wants them, and a queue that is full holds up the
/// fetching of its partition, of no other, and nothing of what the group has to say.
pub(super) struct Source {
    queue: PartitionQueue<Callbacks>,
    /// Whether there may be something in it.
    filled: Arc<AtomicBool>,
    /// Read, and still to be given out.
    next: Option<Stored>,
}

impl Source {
    /// To be called before the partition is assigned: then nothing of it gets into the consumer's common queue. There may be
    /// one source of a partition at a time. `None` where librdkafka does not take the name.
    pub(super) fn split(
        consumer: &Arc<BaseConsumer<Callbacks>>,
        topic: &TopicName,
        partition: i32,
        arrived: &Arc<Notify>,
    ) -> Option<Self> {
        let mut queue = consumer.split_partition_queue(topic.as_str(), partition)?;
        let filled = Arc::new(AtomicBool::new(true));
        let (fills, arrived) = (filled.clone(), arrived.clone());
        queue.set_nonempty_callback(move || {
            fills.store(true, Ordering::Release);
            arrived.notify_one();
        });
        Some(Self { queue, filled, next: None })
    }

    /// The next message, with its offset, where there is one. It stays until it is [taken](Self::take).
    pub(super) fn peek(&mut self, topic: &TopicName) -> Option<KafkaResult<&Stored>> {
        if self.next.is_none() {
            // Before reading: what arrives behind it raises it again.
            if !self.filled.swap(false, Ordering::AcqRel) {
                return None;
            }
            match self.queue.poll(std::time::Duration::ZERO)? {
                Ok(record) => self.next = Some(wire::stored(topic, &record)),
                Err(error) => {
                    self.filled.store(true, Ordering::Release);
                    return Some(Err(error));
                }
            }
            // There may be more.
            self.filled.store(true, Ordering::Release);
        }
        self.next.as_ref().map(Ok)
    }

    /// Takes the message that [`peek`](Self::peek) gave.
    pub(super) fn take(&mut self) -> Option<Stored> {
        self.next.take()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("filled", &self.filled).field("next", &self.next).finish_non_exhaustive()
    }
}
