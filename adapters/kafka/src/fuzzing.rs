//! Decoders of foreign bytes, to be tried with bytes that they do not expect: see `crates/workshop/fuzz`.

use partitura_broker::TopicName;
use rdkafka::Timestamp;
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

use crate::options::{Options, Target};
use crate::position::Position;
use crate::{claim, inbox, wire};

/// A record: its headers as lines, an empty line, and the payload. Read as a message, as a delayed one, as the
/// tombstone of one, and as a reply.
pub fn record(bytes: &[u8]) {
    let end = bytes.windows(2).position(|two| two == b"\n\n");
    let (head, payload) = end.map_or((bytes, None), |end| (&bytes[..end], Some(bytes[end + 2..].to_vec())));
    let mut headers = OwnedHeaders::new();
    for line in head.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        headers = headers.insert(Header { key: &String::from_utf8_lossy(name).replace('\0', ""), value });
    }
    let key = head.first().map(|byte| vec![*byte]);
    let record = OwnedMessage::new(payload, key, "t".to_owned(), Timestamp::NotAvailable, 0, 7, Some(headers));
    let Ok(topic) = "t".parse::<TopicName>() else { return };
    let stored = wire::stored(&topic, &record);
    let _ = (wire::delayed_message(&topic, &record), wire::done_by(&record), wire::due(&record));
    let _ = (wire::is_for("inbox", &record), wire::headers(&stored.message), wire::delayed_key(&stored.message));
}

/// The metadata of a commit.
pub fn position(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for offset in [0, 7, i64::MAX - 1] {
        let position = Position::decode(offset, &text);
        assert!(position.settled.iter().all(|range| offset <= range.start && range.start <= range.end), "{position:?}");
        let _ = position.encode();
    }
}

/// An entry in the log of a shared subscription.
pub fn claim_entry(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        claim::decode_entry(text);
    }
}

/// Texts that an operator or a caller hands in: URLs, and the addresses of inboxes.
pub fn url(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = Target::new(&text, Options::default()).map(|target| target.config());
    inbox::read_address(&text);
}

#[cfg(test)]
mod tests {
    use partitura_fuzz::smoke;

    #[test]
    fn no_record_commit_or_url_makes_a_decoder_panic() {
        smoke("kafka-record", 10_000, super::record);
        smoke("kafka-position", 20_000, super::position);
        smoke("kafka-claim", 20_000, super::claim_entry);
        smoke("url", 10_000, super::url);
    }
}
