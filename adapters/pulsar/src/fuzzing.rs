//! Decoders of foreign bytes, to be tried with bytes that they do not expect: see `crates/workshop/fuzz`.

use bytes::BytesMut;
use partitura_broker::TopicName;
use pulsar::message::Codec;
use tokio_util::codec::Decoder;

use crate::options::{Options, Target};
use crate::wire;

/// Frames as a broker sends them, and the messages in them.
pub fn frame(bytes: &[u8]) {
    let mut rest = BytesMut::from(bytes);
    let Ok(topic) = "orders".parse::<TopicName>() else { return };
    while let Ok(Some(frame)) = Codec.decode(&mut rest) {
        let (Some(message), Some(payload)) = (frame.command.message, frame.payload) else { continue };
        let _ = wire::batch_size(&payload);
        if let Ok(received) = wire::messages(&topic, &message.message_id, payload) {
            let _: Vec<_> = received.into_iter().map(|received| wire::Outbound::new(received.message).size()).collect();
        }
    }
}

/// Texts that an operator or a caller hands in: URLs, and the addresses of inboxes.
pub fn url(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(target) = Target::parse(&text, Options::default()) {
        let _ = (target.namespace.inbox_at(&text), target.admin.as_str());
    }
}

#[cfg(test)]
mod tests {
    use partitura_fuzz::smoke;

    #[test]
    fn no_frame_or_url_makes_a_decoder_panic() {
        smoke("pulsar-frame", 20_000, super::frame);
        smoke("url", 10_000, super::url);
    }
}
