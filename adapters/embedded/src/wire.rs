//! A message as it is stored: one self-contained, checked blob.
//!
//! ```text
//! version 1 byte · checksum 4 · flags 1 · id length 1, id · [not before 8] · [key length, key]
//! · headers count, each name length, name, value length, value · payload up to the end
//! ```
//! Numbers are little-endian; counts and lengths, where not fixed, are LEB128. The topic is that of the queue.

use bytes::Bytes;
use partitura_broker::{Headers, Message, MessageId, Timestamp, TopicName};

const VERSION: u8 = 1;
const HAS_KEY: u8 = 1;
const HAS_NOT_BEFORE: u8 = 2;
/// Version and checksum, which the checksum does not cover.
const PREFIX: usize = 5;

pub(crate) fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.size() + message.id.as_str().len() + 32 + 4 * message.headers.len());
    out.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
    let key = if message.key.is_some() { HAS_KEY } else { 0 };
    let not_before = if message.not_before.is_some() { HAS_NOT_BEFORE } else { 0 };
    out.push(key | not_before);
    // Capabilities::check has checked that an id has at most 255 bytes.
    out.push(message.id.as_str().len() as u8);
    out.extend_from_slice(message.id.as_str().as_bytes());
    if let Some(moment) = message.not_before {
        out.extend_from_slice(&moment.as_millis().to_le_bytes());
    }
    if let Some(key) = &message.key {
        put_bytes(&mut out, key);
    }
    put_length(&mut out, message.headers.len());
    for (name, value) in message.headers.iter() {
        put_bytes(&mut out, name.as_bytes());
        put_bytes(&mut out, value);
    }
    out.extend_from_slice(&message.payload);
    checked(out)
}

/// Puts the checksum into a blob.
pub(crate) fn checked(mut blob: Vec<u8>) -> Vec<u8> {
    if let Some((prefix, rest)) = blob.split_at_mut_checked(PREFIX) {
        prefix[1..].copy_from_slice(&checksum(rest).to_le_bytes());
    }
    blob
}

/// `None` where the blob is damaged. Key, header values and payload share its memory.
pub(crate) fn decode(topic: &TopicName, blob: Vec<u8>) -> Option<Message> {
    let mut rest = Bytes::from(blob);
    let prefix = take(&mut rest, PREFIX)?;
    let sum = u32::from_le_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != VERSION || sum != checksum(&rest) {
        return None;
    }
    let flags = take(&mut rest, 1)?[0];
    let id = usize::from(take(&mut rest, 1)?[0]);
    let id = MessageId::from(text(&take(&mut rest, id)?)?);
    let not_before = match flags & HAS_NOT_BEFORE {
        0 => None,
        _ => Some(Timestamp::from_millis(u64::from_le_bytes(take(&mut rest, 8)?[..].try_into().ok()?))),
    };
    let key = match flags & HAS_KEY {
        0 => None,
        _ => Some(take_bytes(&mut rest)?),
    };
    let mut headers = Headers::default();
    for _ in 0..take_length(&mut rest)? {
        let name = take_bytes(&mut rest)?;
        headers.append(text(&name)?, take_bytes(&mut rest)?);
    }
    Some(Message { topic: topic.clone(), id, key, headers, payload: rest, not_before })
}

/// The id of a stored message, without the rest of it; `None` where the blob is damaged.
pub(crate) fn id(blob: &[u8]) -> Option<&str> {
    let length = usize::from(*blob.get(PREFIX + 1)?);
    text(blob.get(PREFIX + 2..PREFIX + 2 + length)?)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn take(rest: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn take_bytes(rest: &mut Bytes) -> Option<Bytes> {
    let length = take_length(rest)?;
    take(rest, length)
}

fn take_length(rest: &mut Bytes) -> Option<usize> {
    let mut length = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = take(rest, 1)?[0];
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

/// Finds damage, not forgery: multiply and rotate over words, as FxHash does, with the length mixed in.
fn checksum(bytes: &[u8]) -> u32 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_mul(K);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sum = words.iter().fold(bytes.len() as u64, |sum, word| step(sum, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    sum = step(sum, u64::from_le_bytes(last));
    (sum >> 32) as u32 ^ sum as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic() -> TopicName {
        TopicName::new("orders").unwrap()
    }

    #[test]
    fn the_format_is_fixed() {
        // Files of every released version stay readable: these bytes must not change.
        let message = Message::new(topic(), "m-1", &b"payload"[..])
            .key(&b"k"[..])
            .header("h", &b"v"[..])
            .not_before(Timestamp::from_millis(258));
        let golden = b"\x01\xd9\x20\xe9\x2b\x03\x03m-1\x02\x01\0\0\0\0\0\0\x01k\x01\x01h\x01vpayload";
        assert_eq!(encode(&message), golden, "{:x?}", &encode(&message)[..5]);
        assert_eq!(decode(&topic(), golden.to_vec()), Some(message));
        assert_eq!(id(golden), Some("m-1"));
        assert_eq!(id(&golden[..8]), None);
    }

    proptest! {
        #[test]
        fn any_message_comes_back_byte_for_byte_and_damage_is_found(
            id in "[!-~]{1,255}",
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
            headers in prop::collection::vec((".{0,20}", prop::collection::vec(any::<u8>(), 0..200)), 0..5),
            payload in prop::collection::vec(any::<u8>(), 0..2_000),
            not_before in prop::option::of(any::<u64>()),
            flip in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut message = Message::new(topic(), id, payload);
            message.key = key.map(Bytes::from);
            message.not_before = not_before.map(Timestamp::from_millis);
            for (name, value) in headers {
                message.headers.append(&name, value);
            }
            let blob = encode(&message);
            let mut flipped = blob.clone();
            flipped[flip.index(blob.len())] ^= 0x10;
            prop_assert_eq!(decode(&topic(), flipped), None);
            prop_assert_eq!(decode(&topic(), blob[..cut.index(blob.len())].to_vec()), None);
            prop_assert_eq!(decode(&topic(), blob), Some(message));
        }
    }
}
