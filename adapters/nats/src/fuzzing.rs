//! Decoders of foreign bytes, to be tried with bytes that they do not expect: see `crates/workshop/fuzz`.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use partitura_broker::TopicName;

use crate::acks::Place;
use crate::options::{Options, Settings};
use crate::{names, wire};

/// A message: its headers as lines, an empty line, and the payload.
pub fn message(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (head, payload) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut headers = HeaderMap::new();
    for (name, value) in head.split('\n').filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    }
    let Ok(topic) = "orders".parse::<TopicName>() else { return };
    if let Ok(read) = wire::message(&topic, Some(&headers), Bytes::copy_from_slice(payload.as_bytes())) {
        let again = wire::message(&topic, Some(&wire::headers(&read)), read.payload.clone());
        assert_eq!(again.as_ref(), Ok(&read), "what was read can be written");
    }
}

/// The subjects of deliveries.
pub fn subject(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (Place::parse(&text), names::partition(&text), names::is_inbox(&text));
}

/// Texts that an operator hands in.
pub fn url(bytes: &[u8]) {
    let _ = Settings::new(&String::from_utf8_lossy(bytes), Options::default());
}

#[cfg(test)]
mod tests {
    use partitura_fuzz::smoke;

    #[test]
    fn no_message_subject_or_url_makes_a_decoder_panic() {
        smoke("nats-message", 20_000, super::message);
        smoke("nats-subject", 20_000, super::subject);
        smoke("url", 10_000, super::url);
    }
}
