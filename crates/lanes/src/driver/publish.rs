use std::sync::Arc;

use partitura_broker::{
    Clock, Error, ErrorKind, Limits, Message, Partition, Producer, Result, SubscriptionName, TopicName, partition_of,
};
use tokio::sync::mpsc;

use super::report::{Published, Report};
use crate::SubscriptionTopics;
use crate::core::{Burial, Death, Marker, Move};
use crate::headers::MARKER;
use crate::letter::{self, GivenUp};
use crate::meter::Meter;

/// Publishes dead letters, parked messages and markers, each in a task of its own.
pub(super) struct Publisher {
    producer: Arc<dyn Producer>,
    /// `None`: there are none, and messages that are given up are dropped.
    dead: Option<DeadTopic>,
    parking: Option<TopicName>,
    /// For each partition, a key that belongs to it: only keys decide where a message goes.
    keys: Vec<String>,
    partitions: u32,
    limits: Limits,
    clock: Arc<dyn Clock>,
    report: mpsc::UnboundedSender<Report>,
    meter: Meter,
}

/// Where dead letters go, and the subscription that they name.
struct DeadTopic {
    topic: TopicName,
    subscription: SubscriptionName,
}

impl Publisher {
    pub(super) fn new(
        producer: Arc<dyn Producer>,
        source: &SubscriptionTopics,
        limits: Limits,
        clock: Arc<dyn Clock>,
        (report, meter): (mpsc::UnboundedSender<Report>, Meter),
    ) -> Result<Self> {
        let dead = source.dead_topic()?.zip(source.subscription().cloned());
        Ok(Self {
            producer,
            dead: dead.map(|(topic, subscription)| DeadTopic { topic, subscription }),
            parking: source.parking_topic()?,
            keys: Vec::new(),
            partitions: source.ordering().partitions(),
            limits,
            clock,
            report,
            meter,
        })
    }

    pub(super) fn bury(&self, burials: impl Iterator<Item = Burial>) {
        for burial in burials {
            let id = &burial.delivery.message.id;
            let (reason, error) = (&burial.death.reason, burial.death.error.as_deref().unwrap_or_default());
            let Some(DeadTopic { topic, subscription }) = &self.dead else {
                tracing::warn!(%id, reason, error, "dropping a message: a broadcast has no dead letters");
                let _ = self.report.send(Report::Buried { lane: burial.lane, confirmed: true });
                continue;
            };
            tracing::warn!(%id, %topic, reason, error, "publishing a dead letter");
            let Burial { lane, delivery, attempts, death: Death { reason, error } } = burial;
            let (meter, tried) = (self.meter.clone(), error.is_some());
            let given_up = GivenUp { reason, error, attempts, partition: delivery.partition, at: self.clock.now() };
            let letter = letter::write(delivery.message, topic.clone(), subscription, given_up, &self.limits);
            let (producer, report) = (self.producer.clone(), self.report.clone());
            tokio::spawn(async move {
                let result = one(producer.publish(vec![letter]).await);
                if result.is_ok() {
                    meter.buried(tried);
                }
                if let Err(error) = &result {
                    tracing::warn!(%error, "a dead letter was not confirmed; its message stays, and its key waits");
                }
                let _ = report.send(Report::Buried { lane, confirmed: result.is_ok() });
            });
        }
    }

    pub(super) fn park(&self, moves: Vec<Move>) {
        if moves.is_empty() {
            return;
        }
        let (producer, report) = (self.producer.clone(), self.report.clone());
        tokio::spawn(async move {
            let (items, messages): (Vec<_>, Vec<_>) =
                moves.into_iter().map(|Move { moved, message }| (moved, message)).unzip();
            let mut results = producer.publish(messages).await.into_iter();
            let mut failed = None;
            let moved = items.into_iter().map(|item| {
                let result = results.next().unwrap_or_else(|| Err(no_result()));
                if let Err(error) = &result {
                    tracing::warn!(%error, "a message was not parked, and stays in memory");
                    failed = Some(item.lane);
                }
                // The messages behind one that failed stay with it, whatever the producer says: see `Core::moved`.
                Published { item, confirmed: failed != Some(item.lane) }
            });
            let _ = report.send(Report::Moved(moved.collect()));
        });
    }

    pub(super) fn mark(&mut self, markers: Vec<Marker>) {
        let Some(topic) = self.parking.clone().filter(|_| !markers.is_empty()) else { return };
        if self.keys.is_empty() {
            self.keys = partition_keys(self.partitions);
        }
        let message = |marker: &Marker| {
            let (partition, term) = (marker.partition, marker.term.to_string());
            let key = self.keys.get(partition.0 as usize).cloned().unwrap_or_default();
            Message::new(topic.clone(), format!("marker-{partition}-{term}"), "").key(key).header(MARKER, term)
        };
        let messages = markers.iter().map(message).collect::<Vec<_>>();
        let (producer, report) = (self.producer.clone(), self.report.clone());
        tokio::spawn(async move {
            let mut results = producer.publish(messages).await.into_iter();
            let marked = markers.into_iter().map(|item| {
                let result = results.next().unwrap_or_else(|| Err(no_result()));
                if let Err(error) = &result {
                    tracing::warn!(%error, partition = %item.partition, "a partition waits for its marker");
                }
                Published { item, confirmed: result.is_ok() }
            });
            let _ = report.send(Report::Marked(marked.collect()));
        });
    }
}

/// For each partition the first of the keys "0", "1", … that belongs to it.
fn partition_keys(partitions: u32) -> Vec<String> {
    let mut keys = vec![String::new(); partitions as usize];
    let mut missing = keys.len();
    for number in 0u64.. {
        if missing == 0 {
            break;
        }
        let key = number.to_string();
        let Partition(partition) = partition_of(key.as_bytes(), partitions);
        if let Some(slot) = keys.get_mut(partition as usize).filter(|slot| slot.is_empty()) {
            *slot = key;
            missing -= 1;
        }
    }
    keys
}

fn one<T>(results: Vec<Result<T>>) -> Result<T> {
    results.into_iter().next().unwrap_or_else(|| Err(no_result()))
}

fn no_result() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "publish", "the producer gave no result for a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_a_key_of_its_own() {
        for partitions in [1, 7, 256] {
            let keys = partition_keys(partitions);
            let found = keys.iter().map(|key| partition_of(key.as_bytes(), partitions).0);
            assert!(found.eq(0..partitions));
        }
    }
}
