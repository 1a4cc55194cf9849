//! Histories written by hand.

use partitura_broker::{Partition, partition_of};

use crate::history::{Delivered, Entry, History, Record, Sent, Token};

/// Builds a history about the topic `q` with the subscription `s`. Each entry is a millisecond after the last. The id
/// of a message is its key, a dash and a number.
pub(super) struct Script {
    entries: Vec<Entry>,
    now: u64,
    process: u32,
    partitions: u32,
    slot: u32,
    call: u64,
}

impl Script {
    pub(super) fn queue(partitions: u32) -> Self {
        let script = Self { entries: Vec::new(), now: 0, process: 0, partitions, slot: 0, call: 0 };
        script
            .then(Record::Topic { topic: "q".into(), partitions: Some(partitions) })
            .then(Record::Subscription { topic: "q".into(), subscription: "s".into() })
    }

    pub(super) fn done(self) -> History {
        History::new(self.entries)
    }

    pub(super) fn then(mut self, record: Record) -> Self {
        self.now += 1_000;
        let wall = 1_000_000 + self.now / 1_000;
        self.entries.push(Entry { at: self.now, wall, process: self.process, record });
        self
    }

    pub(super) fn wait(mut self, millis: u64) -> Self {
        self.now += millis * 1_000;
        self
    }

    pub(super) fn process(mut self, process: u32) -> Self {
        self.process = process;
        self
    }

    pub(super) fn killed(self) -> Self {
        self.then(Record::Killed)
    }

    pub(super) fn sent(&self, id: &str) -> Sent {
        let key = id.split_once('-').map(|(key, _)| key.to_owned());
        Sent { topic: "q".into(), id: id.into(), key, size: 10, digest: 1, due: None }
    }

    pub(super) fn publish(self, ids: &[&str]) -> Self {
        ids.iter().fold(self, |script, id| {
            let sent = script.sent(id);
            script.publish_as(sent, true)
        })
    }

    pub(super) fn publish_as(mut self, sent: Sent, confirmed: bool) -> Self {
        self.call += 1;
        let (call, id) = (self.call, sent.id.clone());
        let Partition(partition) = partition_of(sent.key.clone().unwrap_or_default().as_bytes(), self.partitions);
        let outcome = if confirmed { Ok(partition) } else { Err("OutcomeUnknown".into()) };
        self.then(Record::Publishing { call, sent }).then(Record::Published { call, id, outcome })
    }

    pub(super) fn join(self, consumer: u32) -> Self {
        let (topics, subscription) = (vec!["q".into()], Some("s".into()));
        self.then(Record::Joined { consumer, topics, subscription, messages: 3, bytes: 35 })
    }

    pub(super) fn assigned(self, consumer: u32, partition: u32, epoch: u32) -> Self {
        self.then(Record::Assigned { consumer, partition, epoch })
    }

    pub(super) fn revoking(self, consumer: u32, partition: u32) -> Self {
        self.then(Record::Revoking { consumer, partition, within: 10_000_000 })
    }

    pub(super) fn releasing(self, consumer: u32, partition: u32) -> Self {
        self.then(Record::Releasing { consumer, partition })
    }

    pub(super) fn lost(self, consumer: u32, partition: u32) -> Self {
        self.then(Record::Lost { consumer, partition })
    }

    pub(super) fn leave(self, consumer: u32) -> Self {
        self.then(Record::Leaving { consumer })
    }

    pub(super) fn flushed(self, consumer: u32) -> Self {
        self.then(Record::Flushed { consumer })
    }

    fn token(&mut self, consumer: u32, id: &str, epoch: u32) -> Token {
        let key = id.split_once('-').map_or("", |(key, _)| key);
        let Partition(partition) = partition_of(key.as_bytes(), self.partitions);
        self.slot += 1;
        Token { consumer, partition, epoch, slot: self.slot }
    }

    pub(super) fn deliver(self, consumer: u32, id: &str, epoch: u32) -> Self {
        let sent = self.sent(id);
        self.deliver_as(consumer, sent, epoch, false)
    }

    pub(super) fn deliver_again(self, consumer: u32, id: &str, epoch: u32) -> Self {
        let sent = self.sent(id);
        self.deliver_as(consumer, sent, epoch, true)
    }

    pub(super) fn deliver_as(mut self, consumer: u32, message: Sent, epoch: u32, redelivered: bool) -> Self {
        let token = self.token(consumer, &message.id, epoch);
        self.then(Record::Delivered(Delivered { consumer, message, redelivered, token }))
    }

    /// Settles the last delivery of that message to that consumer.
    pub(super) fn settle(self, consumer: u32, id: &str) -> Self {
        let token = self.entries.iter().rev().find_map(|entry| match &entry.record {
            Record::Delivered(delivered) if delivered.consumer == consumer && delivered.message.id == id => {
                Some(delivered.token)
            }
            _ => None,
        });
        let token = token.expect("delivered before");
        self.then(Record::Settling { consumer, token })
    }

    pub(super) fn started(self, id: &str, attempt: u32) -> Self {
        let key = id.split_once('-').map(|(key, _)| key.to_owned());
        self.then(Record::Started { lanes: 0, subscription: "s".into(), key, id: id.into(), attempt })
    }

    pub(super) fn ended(self, id: &str) -> Self {
        self.then(Record::Ended { lanes: 0, id: id.into(), outcome: "done".into() })
    }
}
