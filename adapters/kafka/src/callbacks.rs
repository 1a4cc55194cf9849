use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use partitura_broker::telemetry::TARGET;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::health::{self, Health};

/// A request of librdkafka to a consumer. librdkafka waits for the answer: an assignment is complete when the
/// consumer has assigned it, and a revoked partition is given to another member when the consumer has unassigned
/// it. So the callback does nothing but take a note, and the polling thread answers when it is ready. This makes a
/// hand-over possible.
#[derive(Debug)]
pub(crate) enum Change {
    Assign(Vec<u32>),
    Revoke { partitions: Vec<u32>, lost: bool },
}

/// The partitions of a list that are assigned. librdkafka refuses to unassign others. The group may name others if
/// some of its partitions could not be taken over.
pub(crate) fn only_assigned(consumer: &BaseConsumer<Callbacks>, list: &TopicPartitionList) -> TopicPartitionList {
    let (mut wanted, assigned) = (TopicPartitionList::new(), consumer.assignment().unwrap_or_default());
    for element in list.elements() {
        if assigned.find_partition(element.topic(), element.partition()).is_some() {
            wanted.add_partition(element.topic(), element.partition());
        }
    }
    wanted
}

/// The callbacks of a consumer.
#[derive(Debug, Default)]
pub(crate) struct Callbacks {
    changes: Mutex<VecDeque<Change>>,
    /// The consumer leaves and answers no more requests: everything is unassigned at once.
    closing: AtomicBool,
    pub(crate) health: Health,
}

impl Callbacks {
    pub(crate) fn change(&self) -> Option<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(crate) fn has_change(&self) -> bool {
        !self.changes.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        health::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.health.error(error, reason);
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, asked: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assign = asked == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        tracing::debug!(target: TARGET, assign, ?list, "noting a rebalance");
        if self.closing.load(Ordering::Relaxed) {
            let done = match assign {
                true => consumer.incremental_assign(list),
                false => consumer.incremental_unassign(&only_assigned(consumer, list)),
            };
            if let Err(error) = done {
                tracing::debug!(target: TARGET, %error, "leaving the group");
            }
            return;
        }
        let mut partitions: Vec<u32> =
            list.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok()).collect();
        partitions.sort_unstable();
        let change = if assign {
            Change::Assign(partitions)
        } else {
            Change::Revoke { partitions, lost: consumer.assignment_lost() }
        };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }
}
