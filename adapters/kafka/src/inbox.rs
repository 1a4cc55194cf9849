//! Replies: one small topic for all inboxes. An inbox reads one of its partitions and picks out its own replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use partitura_broker::{ErrorKind, Inbox, InboxAddress, Message, Result, TopicName};
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::message::BorrowedMessage;

use crate::core::Core;
use crate::reader::{Reader, Start};
use crate::record::{MAX_RECORD, Record};
use crate::record_producer::RecordProducer;
use crate::{birth, error, names, topology, wire};

/// The number of partitions of the topic. More partitions mean fewer foreign replies that each inbox reads.
const PARTITIONS: u32 = 8;
/// The time for which a reply is kept, in milliseconds. An inbox reads a reply at once or never.
const RETENTION: &str = "600000";

/// The topic in the messages of an inbox.
const TOPIC: &str = "replies";

/// An inbox.
#[derive(Debug)]
pub(crate) struct KafkaInbox {
    address: InboxAddress,
    reader: Reader<Message>,
    waiting: std::vec::IntoIter<Message>,
}

impl KafkaInbox {
    pub(crate) async fn open(core: &Arc<Core>) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let partitions = partitions(core).await?;
        let name = InboxAddress::secret();
        let seed = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let partition = seed.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % partitions.max(1);
        let address = InboxAddress::new(format!("{partition}/{name}"));
        let topic = TopicName::new(TOPIC)?;
        let read = move |record: &BorrowedMessage<'_>| {
            wire::is_for(&name, record).then(|| wire::stored(&topic, record).message)
        };
        let reader = Reader::open(core, names::REPLIES, [partition], Start::Now, read).await?;
        Ok(Self { address, reader, waiting: Vec::new().into_iter() })
    }
}

#[async_trait]
impl Inbox for KafkaInbox {
    fn address(&self) -> &InboxAddress {
        &self.address
    }

    async fn next(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.waiting.next() {
                return Ok(message);
            }
            self.waiting = self.reader.next().await?.into_iter();
        }
    }
}

/// Sends a reply without waiting for its confirm.
pub(crate) fn reply(producer: &RecordProducer, address: &InboxAddress, message: &Message) -> Result<()> {
    // An address that is not one of ours comes from a request of another program. Its inbox counts as gone.
    let Some((partition, name)) = parse(address.as_str()) else { return Ok(()) };
    let headers = wire::reply_headers(name, message);
    let (key, payload) = (message.key.as_deref(), Some(&message.payload[..]));
    let record = Record { topic: names::REPLIES, partition, key, payload, headers };
    match producer.send(record, Box::new(|_| {})) {
        Err(refused) if error::kind(refused.code) != ErrorKind::NotFound => Err(error::refused("reply", refused.code)),
        _ => Ok(()),
    }
}

/// The partition and the name of an inbox of ours; `None` for other addresses.
fn parse(address: &str) -> Option<(u32, &str)> {
    let (partition, name) = address.split_once('/').filter(|(_, name)| InboxAddress::is_secret(name))?;
    Some((partition.parse().ok()?, name))
}

/// Reads an address, for `fuzzing`.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_address(address: &str) {
    let _ = parse(address);
}

/// The number of partitions of the topic of replies. The first connection that needs the topic creates it.
async fn partitions(core: &Core) -> Result<u32> {
    match core.topics.partitions(names::REPLIES).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        found => return found,
    }
    let count = i32::try_from(PARTITIONS).unwrap_or(1);
    let replication = core.target().options.replication.map_or(-1, i32::from);
    let (largest, birth) = (MAX_RECORD.to_string(), birth::labelled(0));
    let topic = NewTopic::new(names::REPLIES, count, TopicReplication::Fixed(replication))
        .set("cleanup.policy", "delete")
        .set("retention.ms", RETENTION)
        .set("segment.ms", RETENTION)
        .set("max.message.bytes", &largest)
        .set(birth.name, &birth.value);
    topology::create_all(core, &[topic]).await?;
    topology::created(core, names::REPLIES).await
}
