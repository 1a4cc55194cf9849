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

/// The messages that librdkafka has fetched of one partition of one topic, in a queue of its own.
///
/// Messages wait in no other place. They are read when the consumer asks for them. A full queue holds up the
/// fetching of its own partition, but not of others, and no request of the group.
pub(super) struct Source {
    queue: PartitionQueue<Callbacks>,
    /// Whether the queue may have a message.
    filled: Arc<AtomicBool>,
    /// The message that was read and is not delivered yet.
    next: Option<Stored>,
}

impl Source {
    /// Must be called before the partition is assigned. Then none of its messages gets into the common queue of the
    /// consumer. There may be one source of a partition at a time. `None` if librdkafka does not accept the name.
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

    /// The next message, if there is one. It stays until it is [taken](Self::take).
    pub(super) fn peek(&mut self, topic: &TopicName) -> Option<KafkaResult<&Stored>> {
        if self.next.is_none() {
            // Cleared before reading, so that a message that arrives later sets it again.
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
            // The queue may have another message.
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
