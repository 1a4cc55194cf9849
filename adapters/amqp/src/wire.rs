//! A message as the broker has it.
//!
//! | ours | theirs |
//! |---|---|
//! | id | property `message-id` |
//! | payload | one data section |
//! | key | application property `partitura_key`, binary |
//! | partition | application property `partitura_partition`, by which queues take their messages |
//! | headers | one application property for each: `partitura_header_0_NAME`, `partitura_header_1_NAME`, …, binary |
//! | moment | application property `partitura_due` |
//!
//! Application properties have neither an order nor two of the same name, and those of Partitura have both.

use std::time::Duration;

use bytes::Bytes;
use fe2o3_amqp::types::messaging::{
    AmqpValue, ApplicationProperties, Body, Data, Header, Message as AmqpMessage, MessageAnnotations, MessageId,
    Properties,
};
use fe2o3_amqp::types::primitives::{Binary, SimpleValue, Value};
use partitura_broker::{Headers, Message, Partition, Timestamp, TopicName};

const KEY: &str = "partitura_key";
/// The property that the filters of queues read.
pub(crate) const PARTITION: &str = "partitura_partition";
const HEADER: &str = "partitura_header_";
/// Milliseconds since the Unix epoch.
const DUE: &str = "partitura_due";
/// Set on a message that was forwarded when it fell due, and may have been forwarded before.
const AGAIN: &str = "partitura_again";

/// A message as it is sent.
pub(crate) type WireMessage = AmqpMessage<Data>;
/// A message as it is received.
pub(crate) type Incoming = AmqpMessage<Body<Value>>;

/// The way of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The address.
    pub(crate) to: String,
    /// The address of the link for it; `None` if one link takes messages to all addresses.
    pub(crate) link: Option<String>,
    pub(crate) partition: Partition,
    /// The group of the message, where a broker gives out groups one by one.
    pub(crate) group: Option<String>,
    /// The annotation by which the broker keeps it back.
    pub(crate) annotation: Option<(&'static str, Value)>,
    /// The time after which the broker may drop it, where nobody may come for it.
    pub(crate) time_to_live: Option<Duration>,
}

impl Route {
    /// The way to an address, by a link for all addresses.
    pub(crate) fn to(to: String) -> Self {
        Self { to, link: None, partition: Partition(0), group: None, annotation: None, time_to_live: None }
    }

    /// The way to an address, by a link for it alone.
    pub(crate) fn by_link(to: String) -> Self {
        Self { link: Some(to.clone()), ..Self::to(to) }
    }
}

/// Makes the broker's form of a message. `again`: it may have been forwarded before.
pub(crate) fn outgoing(message: &Message, route: Route, again: bool) -> WireMessage {
    let mut table = ApplicationProperties::builder().insert(PARTITION, route.partition.0.cast_signed());
    if let Some(key) = &message.key {
        table = table.insert(KEY, binary(key));
    }
    for (index, (name, value)) in message.headers.iter().enumerate() {
        table = table.insert(format!("{HEADER}{index}_{name}"), binary(value));
    }
    if let Some(due) = message.not_before {
        table = table.insert(DUE, millis(due));
    }
    if again {
        table = table.insert(AGAIN, true);
    }
    let mut properties = Properties::builder().message_id(message.id.as_str().to_owned()).to(route.to).build();
    properties.group_id = route.group;
    let annotations = route.annotation.map(|(name, value)| MessageAnnotations::builder().insert(name, value).build());
    AmqpMessage {
        header: Some(Header { ttl: route.time_to_live.map(ttl), ..durable() }),
        delivery_annotations: None,
        message_annotations: annotations,
        properties: Some(properties),
        application_properties: Some(table.build()),
        body: Data(Binary::from(message.payload.to_vec())),
        footer: None,
    }
}

/// The header of a message that the broker keeps.
pub(crate) fn durable() -> Header {
    Header { durable: true, ..Header::default() }
}

/// Makes a message that is worth something only now, with nothing but a payload.
pub(crate) fn brief(route: Route, payload: &[u8]) -> WireMessage {
    let mut properties = Properties::builder().to(route.to).build();
    properties.group_id = route.group;
    let header = route.time_to_live.map(|time| Header { ttl: Some(ttl(time)), ..Header::default() });
    let message = AmqpMessage::builder().properties(properties).data(Binary::from(payload.to_vec())).build();
    AmqpMessage { header, ..message }
}

/// In milliseconds, as the header has it.
fn ttl(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// A message that was received.
#[derive(Debug, PartialEq)]
pub(crate) struct Received {
    pub(crate) partition: Partition,
    pub(crate) message: Message,
    /// Whether it may have been forwarded twice.
    pub(crate) is_repeated: bool,
}

/// Reads a message. Of a message of another program, the parts are read that can be read. Without an id it gets an
/// empty one.
pub(crate) fn received(topic: TopicName, incoming: Incoming) -> Received {
    let id = match incoming.properties.and_then(|properties| properties.message_id) {
        Some(MessageId::String(id)) => id,
        Some(other) => format!("{other:?}"),
        None => String::new(),
    };
    let mut received = Received {
        partition: Partition(0),
        message: Message::new(topic, id, payload(incoming.body)),
        is_repeated: false,
    };
    let mut headers = Vec::new();
    for (name, value) in incoming.application_properties.map(|table| table.0).unwrap_or_default() {
        match (name.as_str(), value) {
            (PARTITION, SimpleValue::Int(partition)) => received.partition = Partition(partition.cast_unsigned()),
            (KEY, SimpleValue::Binary(key)) => received.message.key = Some(Bytes::from(key.into_vec())),
            (DUE, SimpleValue::Long(due)) => {
                received.message.not_before = u64::try_from(due).ok().map(Timestamp::from_millis);
            }
            (AGAIN, SimpleValue::Bool(again)) => received.is_repeated = again,
            (name, SimpleValue::Binary(value)) => headers.extend(header(name, value)),
            _ => {}
        }
    }
    received.message.headers = in_order(headers);
    received
}

/// The payload of a received message, whatever its form.
pub(crate) fn payload(body: Body<Value>) -> Bytes {
    match body {
        Body::Data(sections) => sections.into_iter().flat_map(|Data(part)| part.into_vec()).collect::<Vec<_>>().into(),
        Body::Value(AmqpValue(Value::Binary(value))) => Bytes::from(value.into_vec()),
        Body::Value(AmqpValue(Value::String(value))) => Bytes::from(value),
        _ => Bytes::new(),
    }
}

/// Bytes of a received message: the payload, and everything of variable size beside it.
pub(crate) fn size(message: &Incoming) -> usize {
    let of_value = |value: &SimpleValue| match value {
        SimpleValue::Binary(value) => value.len(),
        SimpleValue::String(value) => value.len(),
        _ => size_of::<SimpleValue>(),
    };
    let table = message.application_properties.iter().flat_map(|table| table.0.iter());
    let beside: usize = table.map(|(name, value)| name.len() + of_value(value)).sum();
    let payload = match &message.body {
        Body::Data(sections) => sections.iter().map(|Data(part)| part.len()).sum(),
        Body::Value(AmqpValue(Value::Binary(value))) => value.len(),
        Body::Value(AmqpValue(Value::String(value))) => value.len(),
        _ => 0,
    };
    beside + payload
}

/// The index, the name and the value of a header.
fn header(property: &str, value: Binary) -> Option<(usize, String, Bytes)> {
    let (index, name) = property.strip_prefix(HEADER)?.split_once('_')?;
    Some((index.parse().ok()?, name.to_owned(), Bytes::from(value.into_vec())))
}

fn in_order(mut found: Vec<(usize, String, Bytes)>) -> Headers {
    found.sort_unstable_by_key(|(index, ..)| *index);
    let mut headers = Headers::default();
    for (_, name, value) in found {
        headers.append(&name, value);
    }
    headers
}

fn binary(bytes: &[u8]) -> SimpleValue {
    SimpleValue::Binary(Binary::from(bytes.to_vec()))
}

/// The moment in milliseconds since the Unix epoch.
pub(crate) fn millis(moment: Timestamp) -> i64 {
    i64::try_from(moment.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicName {
        TopicName::new("orders").expect("a name")
    }

    fn route(partition: u32) -> Route {
        Route { partition: Partition(partition), ..Route::to("partitura:orders".to_owned()) }
    }

    fn there_and_back(sent: &Message, partition: u32, again: bool) -> Received {
        let WireMessage { properties, application_properties, body, .. } = outgoing(sent, route(partition), again);
        let body = Body::Data(vec![body].into());
        let incoming = Incoming { properties, application_properties, ..AmqpMessage::builder().body(body).build() };
        received(topic(), incoming)
    }

    #[test]
    fn a_written_message_is_read_back() {
        let mut sent = Message::new(topic(), "id-1", vec![0, 255]).key(vec![0xff, 0]);
        for (name, value) in [("größe", vec![1, 0xfe]), ("", vec![]), ("größe", b"again".to_vec()), ("a_1", vec![])]
        {
            sent.headers.append(name, value);
        }
        let sent =
            (0..12).fold(sent, |sent, n| sent.header(&format!("h{n}"), "")).not_before(Timestamp::from_millis(7));
        let expected = Received { partition: Partition(3), message: sent.clone(), is_repeated: false };
        assert_eq!(there_and_back(&sent, 3, false), expected);
        assert!(there_and_back(&sent, 3, true).is_repeated);
    }

    #[test]
    fn the_size_of_a_message_is_that_of_its_payload_and_properties() {
        let table = ApplicationProperties::builder().insert(KEY, binary(b"four")).build();
        let body = Body::Data(vec![Data(Binary::from(vec![0; 1_000])), Data(Binary::from(vec![0; 10]))].into());
        let incoming = Incoming { application_properties: Some(table), ..AmqpMessage::builder().body(body).build() };
        assert_eq!(size(&incoming), 1_010 + KEY.len() + 4);
    }

    #[test]
    fn only_a_message_for_which_nobody_may_come_has_a_time_to_live() {
        let ttl = |message: &WireMessage| message.header.as_ref().and_then(|header| header.ttl);
        let sent = Message::new(topic(), "id", "");
        assert_eq!(ttl(&outgoing(&sent, route(0), false)), None);
        assert_eq!(ttl(&brief(route(0), b"")), None);
        let soon = || Route { time_to_live: Some(Duration::from_secs(60)), ..route(0) };
        assert_eq!(ttl(&outgoing(&sent, soon(), false)), Some(60_000));
        assert_eq!(ttl(&brief(soon(), b"")), Some(60_000));
    }

    #[test]
    fn no_key_is_not_the_empty_key() {
        let without = Message::new(topic(), "id", "");
        assert_eq!(there_and_back(&without, 0, false).message.key, None);
        assert_eq!(there_and_back(&without.key(""), 0, false).message.key, Some(Bytes::new()));
    }

    #[test]
    fn the_readable_parts_of_another_programs_message_are_read() {
        let table = ApplicationProperties::builder().insert(DUE, -1_i64).insert("partitura_header_x", 1).build();
        let text = Body::Value(AmqpValue(Value::String("body".to_owned())));
        let incoming = Incoming { application_properties: Some(table), ..AmqpMessage::builder().body(text).build() };
        let expected =
            Received { partition: Partition(0), message: Message::new(topic(), "", "body"), is_repeated: false };
        assert_eq!(received(topic(), incoming), expected);
    }

    #[test]
    fn the_way_decides_about_the_group_and_the_annotation() {
        let sent = Message::new(topic(), "id", "").not_before(Timestamp::from_millis(7));
        assert_eq!(outgoing(&sent, route(0), false).message_annotations, None);
        let annotation = Some(("x-opt-delivery-time", Value::Long(7)));
        let delayed = outgoing(&sent, Route { annotation, group: Some("3".to_owned()), ..route(0) }, false);
        assert!(delayed.message_annotations.is_some());
        assert_eq!(delayed.properties.and_then(|properties| properties.group_id).as_deref(), Some("3"));
    }
}
