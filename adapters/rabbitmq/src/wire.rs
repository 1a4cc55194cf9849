//! A message as the broker has it.
//!
//! | ours | theirs |
//! |---|---|
//! | id | property `message_id` |
//! | payload | body |
//! | key | header `partitura-key` |
//! | headers | header `partitura-headers`, an array: name, value, name, value, … |
//! | moment | header `partitura-due` |
//!
//! A table of headers would not keep their order, nor two headers of the same name.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString};
use partitura_broker::{Headers, Message, MessageId, Timestamp, TopicName};

const KEY: &str = "partitura-key";
const HEADERS: &str = "partitura-headers";
/// Milliseconds since the Unix epoch.
const DUE: &str = "partitura-due";
/// Set on a message that was forwarded when it fell due, and may have been forwarded before.
const AGAIN: &str = "partitura-again";
/// The delivery mode of a message that is written to the disk before it is confirmed.
const PERSISTENT: u8 = 2;

/// The properties of a message: everything but its payload.
pub(crate) fn properties(message: &Message, again: bool) -> BasicProperties {
    let mut table = FieldTable::default();
    if let Some(key) = &message.key {
        table.insert(KEY.into(), bytes(key));
    }
    if !message.headers.is_empty() {
        let pairs = message.headers.iter().flat_map(|(name, value)| [bytes(name.as_bytes()), bytes(value)]);
        table.insert(HEADERS.into(), AMQPValue::FieldArray(FieldArray::from(pairs.collect::<Vec<_>>())));
    }
    if let Some(due) = message.not_before {
        let millis = i64::try_from(due.as_millis()).unwrap_or(i64::MAX);
        table.insert(DUE.into(), AMQPValue::LongLongInt(millis));
    }
    if again {
        table.insert(AGAIN.into(), AMQPValue::Boolean(true));
    }
    BasicProperties::default()
        .with_message_id(message.id.as_str().into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(table)
}

/// Adds the mark of a message that may have been forwarded before.
pub(crate) fn mark_forwarded(properties: BasicProperties) -> BasicProperties {
    let mut table = properties.headers().clone().unwrap_or_default();
    table.insert(AGAIN.into(), AMQPValue::Boolean(true));
    properties.with_headers(table)
}

/// A message that was received.
#[derive(Debug, PartialEq)]
pub(crate) struct Received {
    pub(crate) message: Message,
    /// Whether it may have been forwarded twice.
    pub(crate) is_repeated: bool,
}

/// Reads a message. Of a message of another program, the parts are read that can be read. Without an id it gets an
/// empty one.
pub(crate) fn message(topic: TopicName, properties: &BasicProperties, payload: Vec<u8>) -> Received {
    let id = properties.message_id().as_ref().map_or("", |id| id.as_str());
    let mut message = Message::new(topic, MessageId::from(id), Bytes::from(payload));
    let Some(table) = properties.headers() else { return Received { message, is_repeated: false } };
    let field = |name: &str| table.inner().get(name);
    message.key = field(KEY).and_then(text).map(Bytes::copy_from_slice);
    if let Some(AMQPValue::FieldArray(pairs)) = field(HEADERS) {
        message.headers = headers(pairs.as_slice());
    }
    if let Some(AMQPValue::LongLongInt(millis)) = field(DUE) {
        message.not_before = u64::try_from(*millis).ok().map(Timestamp::from_millis);
    }
    let is_repeated = matches!(field(AGAIN), Some(AMQPValue::Boolean(true)));
    Received { message, is_repeated }
}

fn headers(pairs: &[AMQPValue]) -> Headers {
    let mut headers = Headers::default();
    for pair in pairs.chunks_exact(2) {
        if let (Some(name), Some(value)) = (text(&pair[0]), text(&pair[1])) {
            headers.append(&String::from_utf8_lossy(name), Bytes::copy_from_slice(value));
        }
    }
    headers
}

/// AMQP's "long string" is any bytes.
fn bytes(bytes: &[u8]) -> AMQPValue {
    AMQPValue::LongString(LongString::from(bytes))
}

fn text(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicName {
        TopicName::new("orders").expect("a name")
    }

    fn there_and_back(sent: &Message, again: bool) -> Received {
        message(topic(), &properties(sent, again), sent.payload.to_vec())
    }

    #[test]
    fn a_written_message_is_read_back() {
        let mut sent = Message::new(topic(), "id-1", vec![0, 255]).key(vec![0xff, 0]);
        sent.headers.append("größe", vec![1, 0xfe]);
        sent.headers.append("", "");
        sent.headers.append("größe", "again");
        let sent = sent.not_before(Timestamp::from_millis(7));
        assert_eq!(there_and_back(&sent, false), Received { message: sent.clone(), is_repeated: false });
        assert!(there_and_back(&sent, true).is_repeated);
    }

    #[test]
    fn no_key_is_not_the_empty_key() {
        let without = Message::new(topic(), "id", "");
        assert_eq!(there_and_back(&without, false).message.key, None);
        assert_eq!(there_and_back(&without.key(""), false).message.key, Some(Bytes::new()));
    }

    #[test]
    fn the_readable_parts_of_another_programs_message_are_read() {
        let mut table = FieldTable::default();
        table.insert(HEADERS.into(), AMQPValue::LongInt(1));
        table.insert(DUE.into(), AMQPValue::LongLongInt(-1));
        let received = message(topic(), &BasicProperties::default().with_headers(table), b"body".to_vec());
        assert_eq!(received, Received { message: Message::new(topic(), "", "body"), is_repeated: false });
    }
}
