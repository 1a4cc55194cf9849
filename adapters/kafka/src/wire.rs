//! The format of messages as records.
//!
//! Key, value and headers of the record are those of the message. The adapter's headers come first: `partitura-id`,
//! then `partitura-due` (milliseconds since the epoch) if the message is delayed, and `partitura-repeated` if a
//! forwarder may have published it before. Records in a topic of delayed messages have keys of their own, and the key
//! of the message in `partitura-key`. A reply begins with `partitura-inbox`.

use std::sync::Arc;

use bytes::Bytes;
use partitura_broker::{Headers, Message, MessageId, Timestamp, TopicName};
use rdkafka::message::{Header, Headers as _, Message as Record, OwnedHeaders};

const ID: &str = "partitura-id";
const DUE: &str = "partitura-due";
const KEY: &str = "partitura-key";
const INBOX: &str = "partitura-inbox";
const REPEATED: &str = "partitura-repeated";
/// In the tombstone of a delayed message: due time and offset of its record.
const DONE: &str = "partitura-done";

/// The headers of a record.
pub(crate) fn headers(message: &Message) -> OwnedHeaders {
    forwarded_headers(message, false)
}

/// The headers of a delayed message that is due. `is_repeated` if it may have been published before.
pub(crate) fn forwarded_headers(message: &Message, is_repeated: bool) -> OwnedHeaders {
    let headers = ours(message, message.headers.len() + 3);
    let headers = if is_repeated { with(headers, REPEATED, b"") } else { headers };
    message.headers.iter().fold(headers, |headers, (name, value)| with(headers, name, value))
}

/// The headers of a reply to the inbox of that name.
pub(crate) fn reply_headers(inbox: &str, message: &Message) -> OwnedHeaders {
    let headers = with(OwnedHeaders::new_with_capacity(message.headers.len() + 2), INBOX, inbox.as_bytes());
    let headers = with(headers, ID, message.id.as_str().as_bytes());
    message.headers.iter().fold(headers, |headers, (name, value)| with(headers, name, value))
}

/// Whether a record is a reply to the inbox of that name.
pub(crate) fn is_for(inbox: &str, record: &impl Record) -> bool {
    let first = record.headers().and_then(|headers| headers.iter().next());
    first.is_some_and(|header| header.key == INBOX && header.value == Some(inbox.as_bytes()))
}

/// The headers of a record in a topic of delayed messages.
pub(crate) fn delayed_headers(message: &Message) -> OwnedHeaders {
    let headers = ours(message, message.headers.len() + 3);
    let headers = message.key.iter().fold(headers, |headers, key| with(headers, KEY, key));
    message.headers.iter().fold(headers, |headers, (name, value)| with(headers, name, value))
}

/// The key of a record in a topic of delayed messages: the same message for the same moment waits once.
pub(crate) fn delayed_key(message: &Message) -> String {
    format!("{} {}", message.id, message.not_before.unwrap_or_default().as_millis())
}

/// The headers of the tombstone for a record that waited at `offset`.
pub(crate) fn done(message: &Message, offset: i64) -> OwnedHeaders {
    let due = message.not_before.unwrap_or_default().as_millis();
    with(OwnedHeaders::new(), DONE, format!("{due} {offset}").as_bytes())
}

/// The due time and the offset of the record for which this one is the tombstone.
pub(crate) fn done_by(record: &impl Record) -> Option<(u64, i64)> {
    let header = record.headers()?.iter().find(|header| header.key == DONE)?;
    let (due, offset) = std::str::from_utf8(header.value?).ok()?.split_once(' ')?;
    Some((due.parse().ok()?, offset.parse().ok()?))
}

fn ours(message: &Message, capacity: usize) -> OwnedHeaders {
    let headers = with(OwnedHeaders::new_with_capacity(capacity), ID, message.id.as_str().as_bytes());
    match message.not_before {
        Some(due) => with(headers, DUE, due.as_millis().to_string().as_bytes()),
        None => headers,
    }
}

fn with(headers: OwnedHeaders, name: &str, value: &[u8]) -> OwnedHeaders {
    headers.insert(Header { key: name, value: Some(value) })
}

/// A message, and its offset in its partition.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) offset: i64,
    pub(crate) message: Message,
    /// Whether a forwarder may have published it before, at another offset.
    pub(crate) is_repeated: bool,
}

/// The message of a record. A record without an id, from another program, gets its place for an id.
pub(crate) fn stored(topic: &TopicName, record: &impl Record) -> Stored {
    let Parsed { id, due, headers, is_repeated, .. } = parse(record);
    let key = record.key().map(Bytes::copy_from_slice);
    let payload = Bytes::copy_from_slice(record.payload().unwrap_or_default());
    let message = Message { topic: topic.clone(), id, key, headers, payload, not_before: due };
    Stored { offset: record.offset(), message, is_repeated }
}

/// The message of a record in a topic of delayed messages.
pub(crate) fn delayed_message(topic: &TopicName, record: &impl Record) -> Message {
    let Parsed { id, due, key, headers, .. } = parse(record);
    let payload = Bytes::copy_from_slice(record.payload().unwrap_or_default());
    Message { topic: topic.clone(), id, key, headers, payload, not_before: due }
}

/// The due time of a record.
pub(crate) fn due(record: &impl Record) -> Option<Timestamp> {
    let headers = record.headers()?;
    let header = headers.iter().take_while(|header| is_ours(header.key)).find(|header| header.key == DUE)?;
    std::str::from_utf8(header.value?).ok()?.parse().ok().map(Timestamp::from_millis)
}

fn is_ours(name: &str) -> bool {
    matches!(name, ID | DUE | KEY | INBOX | REPEATED)
}

/// The adapter's headers of a record, and those of the message.
struct Parsed {
    id: MessageId,
    due: Option<Timestamp>,
    key: Option<Bytes>,
    is_repeated: bool,
    headers: Headers,
}

fn parse(record: &impl Record) -> Parsed {
    let (mut id, mut due, mut key, mut is_repeated, mut headers) = (None, None, None, false, Headers::default());
    let mut leading = true;
    for header in record.headers().into_iter().flat_map(|headers| headers.iter()) {
        let value = header.value.unwrap_or_default();
        match header.key {
            ID if leading && id.is_none() => id = std::str::from_utf8(value).ok().map(Arc::<str>::from),
            DUE if leading && due.is_none() => due = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
            INBOX if leading => {}
            KEY if leading && key.is_none() => key = Some(Bytes::copy_from_slice(value)),
            REPEATED if leading && !is_repeated => is_repeated = true,
            name => {
                leading = false;
                headers.append(name, Bytes::copy_from_slice(value));
            }
        }
    }
    let place = || format!("{}/{}/{}", record.topic(), record.partition(), record.offset()).into();
    Parsed { id: id.unwrap_or_else(place).into(), due: due.map(Timestamp::from_millis), key, is_repeated, headers }
}
