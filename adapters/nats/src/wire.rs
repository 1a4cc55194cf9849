//! A message as the server keeps it.
//!
//! ```text
//! Partitura-Id: order-1/charge
//! Partitura-Key: customer-7            absent without a key
//! Partitura-Headers: a=1&b=%00&a=2     in order, repetitions included; absent without headers
//! Partitura-Due: 1790000000000         milliseconds; absent without a delay
//! ```
//!
//! A header of NATS is text without line breaks, and its client keeps neither the order of headers nor names beyond
//! ASCII. Our headers are any bytes: bytes that are not plain text are percent-encoded.
//!
//! The id is in no `Nats-Msg-Id`, by which the server would store it once in two minutes. A consumer that parks a
//! message, or a caller that sends a dead letter again, publishes the same id to the same topic on purpose. The server
//! would confirm that message and drop it.

use std::borrow::Cow;

use async_nats::{HeaderMap, HeaderName, Subject};
use bytes::Bytes;
use partitura_broker::{Headers, Message, MessageId, Timestamp, TopicName};

const KEY: HeaderName = HeaderName::from_static("Partitura-Key");
const HEADERS: HeaderName = HeaderName::from_static("Partitura-Headers");
const DUE: HeaderName = HeaderName::from_static("Partitura-Due");
const ID: HeaderName = HeaderName::from_static("Partitura-Id");

/// More bytes than the headers of any message within the limits have: its own headers and its key at three bytes each,
/// its id, the subject on which it waits, and the names.
pub(crate) const OVERHEAD: usize = 64 << 10;

/// The headers of a message. [`delay`](crate::delay) adds those that delay it.
pub(crate) fn headers(message: &Message) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert(ID, message.id.as_str());
    if let Some(key) = &message.key {
        map.insert(KEY, escape(key).into_owned());
    }
    if !message.headers.is_empty() {
        map.insert(HEADERS, join(&message.headers));
    }
    if let Some(due) = message.not_before {
        map.insert(DUE, due.as_millis().to_string());
    }
    map
}

/// Reads a stored message. The error says what is wrong with it.
pub(crate) fn message(topic: &TopicName, headers: Option<&HeaderMap>, payload: Bytes) -> Result<Message, &'static str> {
    let headers = headers.ok_or("it has no headers")?;
    let id = headers.get(ID).ok_or("it has no id")?;
    let mut message = Message::new(topic.clone(), MessageId::from(id.as_str()), payload);
    if let Some(key) = headers.get(KEY) {
        message.key = Some(unescape(key.as_str()).ok_or("its key cannot be read")?);
    }
    if let Some(all) = headers.get(HEADERS) {
        message.headers = split(all.as_str()).ok_or("its headers cannot be read")?;
    }
    if let Some(due) = headers.get(DUE) {
        message.not_before =
            Some(Timestamp::from_millis(due.as_str().parse().map_err(|_| "its delay cannot be read")?));
    }
    Ok(message)
}

/// A delivered message, and the subject to acknowledge it to.
pub(crate) struct Delivered {
    pub(crate) message: Message,
    pub(crate) reply: Subject,
}

/// Reads a delivered message. A message of another program is passed on as it is, so that it is seen and settled
/// instead of blocking its partition for ever.
pub(crate) fn delivered(topic: &TopicName, sequence: u64, message: async_nats::Message) -> Delivered {
    let async_nats::Message { subject, payload, headers, reply, .. } = message;
    let message = self::message(topic, headers.as_ref(), payload.clone()).unwrap_or_else(|reason| {
        tracing::warn!(%topic, sequence, reason, "passing on a message that Partitura did not publish");
        Message::new(topic.clone(), format!("foreign-{}-{sequence}", subject.as_str()), payload)
    });
    Delivered { message, reply: reply.unwrap_or_else(|| Subject::from_static("")) }
}

fn join(headers: &Headers) -> String {
    let mut text = String::with_capacity(headers.size() + 2 * headers.len());
    for (i, (name, value)) in headers.iter().enumerate() {
        if i > 0 {
            text.push('&');
        }
        text.push_str(&escape(name.as_bytes()));
        text.push('=');
        text.push_str(&escape(value));
    }
    text
}

fn split(text: &str) -> Option<Headers> {
    let mut headers = Headers::default();
    for pair in text.split('&') {
        let (name, value) = pair.split_once('=')?;
        let name = unescape(name)?;
        headers.append(std::str::from_utf8(&name).ok()?, unescape(value)?);
    }
    Some(headers)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~:/,;@$!*()+#".contains(&byte)
}

fn escape(bytes: &[u8]) -> Cow<'_, str> {
    if let (true, Ok(text)) = (bytes.iter().copied().all(is_plain), std::str::from_utf8(bytes)) {
        return Cow::Borrowed(text);
    }
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        if is_plain(*byte) {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    Cow::Owned(text)
}

fn unescape(text: &str) -> Option<Bytes> {
    if !text.contains('%') {
        return Some(Bytes::copy_from_slice(text.as_bytes()));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        bytes.push((digit(0)? * 16 + digit(1)?) as u8);
        rest = &after[2..];
    }
    Some(bytes.into())
}

/// Undoes percent-encoding in a URL.
pub(crate) fn decode_url(text: &str) -> Option<String> {
    String::from_utf8(unescape(text)?.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicName {
        TopicName::new("t").expect("a valid name")
    }

    fn back_and_forth(message: &Message) -> Message {
        let map = headers(message);
        super::message(&topic(), Some(&map), message.payload.clone()).expect("it was just written")
    }

    #[test]
    fn a_written_message_is_read_back() {
        let plain = Message::new(topic(), "id", "payload");
        let mut full = plain.clone().key(vec![0, 0xff, b'%', b'&', b'=']).not_before(Timestamp::from_millis(7));
        for (name, value) in
            [("größe", &b"\r\n"[..]), ("twice", b"1"), ("twice", b""), ("", b"unnamed"), ("a b: c", b"&=%")]
        {
            full.headers.append(name, value.to_vec());
        }
        for message in [plain.clone(), plain.clone().key(""), full] {
            assert_eq!(back_and_forth(&message), message);
        }
    }

    #[test]
    fn a_message_of_another_program_is_refused_with_a_reason() {
        assert_eq!(message(&topic(), None, Bytes::new()), Err("it has no headers"));
        let mut map = HeaderMap::new();
        map.insert(KEY, "k");
        assert_eq!(message(&topic(), Some(&map), Bytes::new()), Err("it has no id"));
        map.insert(ID, "id");
        for broken in ["%", "%4", "%zz"] {
            map.insert(KEY, broken);
            assert_eq!(message(&topic(), Some(&map), Bytes::new()), Err("its key cannot be read"), "{broken}");
        }
    }

    #[test]
    fn the_largest_headers_fit_the_overhead() {
        let limits = partitura_broker::Limits::default();
        let message = Message::new(topic(), "i".repeat(255), "")
            .key(vec![0; limits.key])
            .header("h", vec![0; limits.header_bytes - 1]);
        let size: usize =
            headers(&message).iter().map(|(name, all)| name.to_string().len() + all[0].as_str().len()).sum();
        // A delay adds its names, a moment and a subject, which a lookup of the message repeats with the id.
        assert!(size + 4 * 255 + 1_024 < OVERHEAD, "{size}");
    }
}
