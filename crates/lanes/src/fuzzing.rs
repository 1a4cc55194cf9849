//! Decoders of foreign bytes, to be tried with bytes that they do not expect: see `crates/workshop/fuzz`.

use partitura_broker::{AckToken, Headers, Message, Partition, TopicName};

use crate::core::read_labels;
use crate::letter::DeadLetter;

/// The headers of a message, as lines: those of a dead letter, of a parked message, of a suspect.
pub fn headers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut headers = Headers::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        headers.append(name, value.to_owned());
        read_labels(value);
    }
    let Ok(topic) = "orders".parse::<TopicName>() else { return };
    let mut message = Message::new(topic.clone(), "id", "payload");
    message.headers = headers;
    let partition = Partition(0);
    let token = AckToken { consumer: 0, partition, epoch: 1, slot: 1 };
    let _ = DeadLetter::read(message, &topic, token).to_redrive();
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_header_makes_a_reader_panic() {
        partitura_fuzz::smoke("headers", 20_000, super::headers);
    }
}
