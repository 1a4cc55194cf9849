//! Decoders of foreign bytes, to be tried with bytes that they do not expect: see `crates/workshop/fuzz`.

use lapin::protocol::basic;
use partitura_broker::TopicName;

use crate::options::{Options, Target};
use crate::wire;

/// A delivery: the properties as the protocol has them, and the payload behind them.
pub fn message(bytes: &[u8]) {
    let Ok((payload, properties)) = basic::parse_properties(bytes) else { return };
    let Ok(topic) = "orders".parse::<TopicName>() else { return };
    let received = wire::message(topic.clone(), &properties, payload.to_vec());
    let written = wire::properties(&received.message, received.is_repeated);
    assert_eq!(wire::message(topic, &written, payload.to_vec()), received, "what was read can be written");
}

/// Texts that an operator hands in.
pub fn url(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // The file would be read.
    if !text.contains("ca=") {
        let _ = Target::new(&text, &Options::default()).map(|target| target.address());
    }
}

#[cfg(test)]
mod tests {
    use partitura_fuzz::smoke;

    #[test]
    fn no_delivery_or_url_makes_a_decoder_panic() {
        smoke("rabbitmq-message", 20_000, super::message);
        smoke("url", 10_000, super::url);
    }
}
