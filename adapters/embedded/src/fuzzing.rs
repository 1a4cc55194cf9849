//! Decoders of foreign bytes, to be tried with bytes that they do not expect: see `crates/workshop/fuzz`.

use partitura_broker::TopicName;

use crate::wire;

/// A stored message: as it is, and with the checksum that it would have.
pub fn message(bytes: &[u8]) {
    let Ok(topic) = "orders".parse::<TopicName>() else { return };
    for blob in [bytes.to_vec(), wire::checked(bytes.to_vec())] {
        let _ = wire::id(&blob);
        if let Some(message) = wire::decode(&topic, blob)
            && message.id.as_str().len() < 256
        {
            assert_eq!(wire::decode(&topic, wire::encode(&message)), Some(message), "what was read can be written");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_stored_message_makes_the_decoder_panic() {
        partitura_fuzz::smoke("embedded-message", 20_000, super::message);
    }
}
