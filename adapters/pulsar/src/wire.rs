//! Partitura's messages in Pulsar's form, and back.
//!
//! | ours | Pulsar's |
//! |---|---|
//! | id, due time | the properties `partitura-id` and `partitura-due` (milliseconds since the epoch) |
//! | may have been forwarded before | the property `partitura-repeated` |
//! | key | the partition key; in Base64, and flagged so, if it is not UTF-8 |
//! | header | a property of the same name; `partitura-binary-NAME`, in Base64, if the value is not UTF-8 |
//! | payload | the payload |
//!
//! Properties are a list on the wire, in which names may repeat. Clients that make a map of them see the last value of
//! each name.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf, BufMut, Bytes};
use partitura_broker::{Error, ErrorKind, Headers, Message, MessageId, Result, Timestamp, TopicName};
use prost::Message as _;
use pulsar::Payload;
use pulsar::proto::{CommandSend, CompressionType, KeyValue, MessageIdData, MessageMetadata, SingleMessageMetadata};

const ID: &str = "partitura-id";
const DUE: &str = "partitura-due";
const REPEATED: &str = "partitura-repeated";
/// The prefix of the name of a header whose value is in Base64.
const BINARY: &str = "partitura-binary-";
/// The prefix of the name of a header whose own name would have another meaning.
const TEXT: &str = "partitura-text-";

/// A message as it goes into an entry, alone or with others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outbound {
    properties: Vec<KeyValue>,
    key: Option<String>,
    key_is_base64: bool,
    payload: Bytes,
    /// The time at which the broker is to deliver it, on subscriptions that know delays.
    deliver_at: Option<Timestamp>,
}

impl Outbound {
    /// Makes the form of a message. Its topic is not part of it.
    pub(crate) fn new(message: Message) -> Self {
        let Message { id, key, headers, payload, not_before, .. } = message;
        let mut properties = Vec::with_capacity(headers.len() + 2);
        properties.push(property(ID, id.as_str()));
        properties.extend(not_before.map(|due| property(DUE, due.as_millis().to_string())));
        properties.extend(headers.iter().map(|(name, value)| header(name, value)));
        let (key, key_is_base64) = match key.map(|key| String::from_utf8(key.to_vec())) {
            None => (None, false),
            Some(Ok(text)) => (Some(text), false),
            Some(Err(binary)) => (Some(BASE64.encode(binary.as_bytes())), true),
        };
        Self { properties, key, key_is_base64, payload, deliver_at: None }
    }

    /// Marks it as one that may have been published before, by a forwarder that has died or got no confirm.
    pub(crate) fn repeated(mut self, is_repeated: bool) -> Self {
        self.properties.extend(is_repeated.then(|| property(REPEATED, "")));
        self
    }

    /// Has the broker deliver it no earlier.
    pub(crate) fn deliver_at(mut self, moment: Timestamp) -> Self {
        self.deliver_at = Some(moment);
        self
    }

    /// The bytes that it takes in an entry, roughly.
    pub(crate) fn size(&self) -> usize {
        let properties: usize = self.properties.iter().map(|p| p.key.len() + p.value.len() + 8).sum();
        self.payload.len() + properties + self.key.as_ref().map_or(0, String::len) + 16
    }

    /// Writes it as a part of a batch. Source: the wiki of Pulsar's binary protocol, "Batch messages".
    fn append(self, batch: &mut Vec<u8>) {
        let metadata = SingleMessageMetadata {
            properties: self.properties,
            partition_key: self.key,
            partition_key_b64_encoded: self.key_is_base64.then_some(true),
            payload_size: i32::try_from(self.payload.len()).unwrap_or(i32::MAX),
            ..SingleMessageMetadata::default()
        };
        batch.put_u32(u32::try_from(metadata.encoded_len()).unwrap_or(u32::MAX));
        metadata.encode_raw(batch);
        batch.put_slice(&self.payload);
    }
}

/// The producer that sends an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub(crate) producer: u64,
    pub(crate) name: &'a str,
    pub(crate) sequence: u64,
    pub(crate) now: Timestamp,
}

/// Makes an entry of one message, or a batch of several.
pub(crate) fn entry(sender: Sender<'_>, mut messages: Vec<Outbound>) -> (CommandSend, Payload) {
    let count = i32::try_from(messages.len()).unwrap_or(i32::MAX);
    let mut metadata = MessageMetadata {
        producer_name: sender.name.to_owned(),
        sequence_id: sender.sequence,
        publish_time: sender.now.as_millis(),
        ..MessageMetadata::default()
    };
    let data = if let [_] = messages.as_slice()
        && let Some(single) = messages.pop()
    {
        metadata.properties = single.properties;
        metadata.partition_key = single.key;
        metadata.partition_key_b64_encoded = single.key_is_base64.then_some(true);
        metadata.deliver_at_time = single.deliver_at.map(|at| i64::try_from(at.as_millis()).unwrap_or(i64::MAX));
        single.payload.to_vec()
    } else {
        metadata.num_messages_in_batch = Some(count);
        let mut batch = Vec::with_capacity(messages.iter().map(Outbound::size).sum());
        messages.into_iter().for_each(|message| message.append(&mut batch));
        batch
    };
    let send = CommandSend {
        producer_id: sender.producer,
        sequence_id: sender.sequence,
        num_messages: Some(count),
        ..CommandSend::default()
    };
    (send, Payload { metadata, data })
}

fn property(name: impl Into<String>, value: impl Into<String>) -> KeyValue {
    KeyValue { key: name.into(), value: value.into() }
}

fn header(name: &str, value: &Bytes) -> KeyValue {
    match std::str::from_utf8(value) {
        Err(_) => property(format!("{BINARY}{name}"), BASE64.encode(value)),
        Ok(text)
            if [ID, DUE, REPEATED].contains(&name) || [BINARY, TEXT].iter().any(|prefix| name.starts_with(prefix)) =>
        {
            property(format!("{TEXT}{name}"), text)
        }
        Ok(text) => property(name, text),
    }
}

/// The number of messages of a batch; `None` if the entry is not a batch.
pub(crate) fn batch_size(payload: &Payload) -> Option<u32> {
    payload.metadata.num_messages_in_batch.map(|count| u32::try_from(count).unwrap_or_default())
}

/// A message as it was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Received {
    pub(crate) message: Message,
    /// Whether a forwarder may have published it before, in another entry.
    pub(crate) is_repeated: bool,
}

/// The messages of an entry, each with its index.
///
/// # Errors
/// [`Incompatible`](ErrorKind::Incompatible) for an entry that another program wrote, in a form that cannot be read.
pub(crate) fn messages(topic: &TopicName, position: &MessageIdData, payload: Payload) -> Result<Vec<Received>> {
    let Payload { metadata, data } = payload;
    let foreign = |what: &str| {
        let (ledger, entry) = (position.ledger_id, position.entry_id);
        let message =
            format!("entry {ledger}:{entry} is {what}, and not by Partitura; skip it with the broker's tools");
        Error::new(ErrorKind::Incompatible, "consume", message).of(topic)
    };
    if metadata.compression.is_some_and(|kind| kind != CompressionType::None as i32) {
        return Err(foreign("compressed"));
    }
    if metadata.num_chunks_from_msg.is_some_and(|chunks| chunks > 1) || !metadata.encryption_keys.is_empty() {
        return Err(foreign("in chunks, or encrypted"));
    }
    let Some(count) = metadata.num_messages_in_batch else {
        let source = Source { topic, position, index: 0 };
        let key = decode_key(metadata.partition_key, metadata.partition_key_b64_encoded);
        return Ok(vec![received(source, metadata.properties, key, data.into())]);
    };
    let mut rest = data.as_slice();
    (0..u32::try_from(count).unwrap_or_default())
        .map(|index| {
            let single = next_of_batch(&mut rest).ok_or_else(|| foreign("damaged"))?;
            let (SingleMessageMetadata { properties, partition_key, partition_key_b64_encoded, .. }, payload) = single;
            // Copied, so that one message that is held does not keep all of the batch in memory.
            let payload = Bytes::copy_from_slice(payload);
            let key = decode_key(partition_key, partition_key_b64_encoded);
            Ok(received(Source { topic, position, index }, properties, key, payload))
        })
        .collect()
}

fn next_of_batch<'a>(rest: &mut &'a [u8]) -> Option<(SingleMessageMetadata, &'a [u8])> {
    let size = rest.try_get_u32().ok()? as usize;
    let (metadata, behind) = rest.split_at_checked(size)?;
    let metadata = SingleMessageMetadata::decode(metadata).ok()?;
    let (payload, behind) = behind.split_at_checked(usize::try_from(metadata.payload_size).ok()?)?;
    *rest = behind;
    Some((metadata, payload))
}

fn decode_key(key: Option<String>, is_base64: Option<bool>) -> Option<Bytes> {
    let decoded = key.map(|key| match is_base64 {
        Some(true) => BASE64.decode(&key).unwrap_or_else(|_| key.into_bytes()),
        _ => key.into_bytes(),
    });
    decoded.map(Bytes::from)
}

/// The place of a message in its topic.
struct Source<'a> {
    topic: &'a TopicName,
    position: &'a MessageIdData,
    /// In the batch.
    index: u32,
}

fn received(source: Source<'_>, properties: Vec<KeyValue>, key: Option<Bytes>, payload: Bytes) -> Received {
    let (mut id, mut not_before, mut is_repeated, mut headers) = (None, None, false, Headers::default());
    for KeyValue { key, value } in properties {
        match key.as_str() {
            ID => id = Some(MessageId::from(value)),
            REPEATED => is_repeated = true,
            DUE => not_before = value.parse().ok().map(Timestamp::from_millis),
            name => {
                let binary = name.strip_prefix(BINARY).and_then(|name| Some((name, BASE64.decode(&value).ok()?)));
                match binary {
                    Some((name, value)) => headers.append(name, value),
                    None => headers.append(name.strip_prefix(TEXT).unwrap_or(name), value.into_bytes()),
                }
            }
        }
    }
    // The place of another program's message is its identity.
    let Source { topic, position, index } = source;
    let id = id.unwrap_or_else(|| format!("{}:{}:{index}", position.ledger_id, position.entry_id).into());
    Received { message: Message { topic: topic.clone(), id, key, headers, payload, not_before }, is_repeated }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: Sender<'static> = Sender { producer: 1, name: "p", sequence: 7, now: Timestamp::from_millis(1_000) };

    fn topic() -> TopicName {
        TopicName::new("orders").expect("a name")
    }

    fn all_kinds() -> Vec<Message> {
        let mut odd = Message::new(topic(), "id-2", vec![0, 0xff]).key(vec![0xff, 0xfe]);
        for (name, value) in [
            ("twice", &b"1"[..]),
            ("twice", &[0x80]),
            ("", b""),
            (ID, b"x"),
            (REPEATED, b""),
            ("partitura-text-a", b"y"),
        ] {
            odd.headers.append(name, value.to_vec());
        }
        odd.headers.append("partitura-binary-b", vec![0x81]);
        odd.headers.append("partitura-binary-c", "text");
        vec![
            Message::new(topic(), "id-1", "payload").key("größe").header("h", "v"),
            odd.not_before(Timestamp::from_millis(5)),
            Message::new(topic(), "id-3", "").key(""),
            Message::new(topic(), "id-4", ""),
        ]
    }

    fn there_and_back(sent: Vec<Message>) -> Vec<Message> {
        let (_, payload) = entry(SENDER, sent.into_iter().map(Outbound::new).collect());
        let received = messages(&topic(), &MessageIdData::default(), payload).expect("an entry of ours");
        assert!(received.iter().all(|received| !received.is_repeated));
        received.into_iter().map(|received| received.message).collect()
    }

    #[test]
    fn every_message_comes_back_as_it_was_alone_and_in_a_batch() {
        assert_eq!(there_and_back(all_kinds()), all_kinds());
        for message in all_kinds() {
            assert_eq!(there_and_back(vec![message.clone()]), [message]);
        }
    }

    #[test]
    fn the_mark_of_a_second_copy_is_no_header() {
        for message in all_kinds() {
            let (_, payload) = entry(SENDER, vec![Outbound::new(message.clone()).repeated(true)]);
            let received = messages(&topic(), &MessageIdData::default(), payload).expect("an entry of ours");
            assert_eq!(received, [Received { message, is_repeated: true }]);
        }
    }

    #[test]
    fn a_single_message_is_no_batch_and_may_be_delayed() {
        let delayed = Outbound::new(all_kinds().remove(0)).deliver_at(Timestamp::from_millis(9));
        let (send, payload) = entry(SENDER, vec![delayed]);
        assert_eq!((send.sequence_id, send.num_messages), (7, Some(1)));
        assert_eq!((payload.metadata.num_messages_in_batch, payload.metadata.deliver_at_time), (None, Some(9)));
        assert_eq!(payload.data, b"payload");
    }

    #[test]
    fn the_message_of_another_program_has_its_place_as_id() {
        let payload = Payload { metadata: MessageMetadata::default(), data: b"x".to_vec() };
        let position = MessageIdData { ledger_id: 3, entry_id: 4, ..MessageIdData::default() };
        let got = messages(&topic(), &position, payload).expect("a plain entry");
        let Message { id, payload, .. } = &got[0].message;
        assert_eq!((id.as_str(), payload.as_ref()), ("3:4:0", &b"x"[..]));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_an_error() {
        let (_, whole) = entry(SENDER, all_kinds().into_iter().map(Outbound::new).collect());
        let mut damaged = whole.clone();
        damaged.data.truncate(20);
        let mut compressed = whole;
        compressed.metadata.compression = Some(CompressionType::Lz4 as i32);
        for payload in [damaged, compressed] {
            let error = messages(&topic(), &MessageIdData::default(), payload).expect_err("not readable");
            assert_eq!(error.kind(), ErrorKind::Incompatible);
        }
    }
}
