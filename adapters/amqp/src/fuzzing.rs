//! Decoders of foreign bytes, to be tried with bytes that they do not expect: see `crates/workshop/fuzz`.

use std::panic::catch_unwind;

use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;
use fe2o3_amqp::types::primitives::Value;
use partitura_broker::TopicName;
use serde_amqp::read::SliceReader;

use crate::options::{Options, Target};
use crate::wire;

/// A message as the protocol has it.
///
/// The vendor's decoder (serde_amqp 0.18) subtracts from the size of a map without a check, and panics where overflow is
/// checked. Such bytes count as refused.
pub fn message(bytes: &[u8]) {
    let decoded = catch_unwind(|| Body::<Value>::decode_message_from_reader(SliceReader::new(bytes)));
    let Ok(Ok(incoming)) = decoded else { return };
    let Ok(topic) = "orders".parse::<TopicName>() else { return };
    let received = wire::received(topic, incoming);
    let _ = wire::outgoing(&received.message, wire::Route::to("orders".to_owned()), received.is_repeated);
}

/// Texts that an operator hands in.
pub fn url(bytes: &[u8]) {
    let _ = Target::new(&String::from_utf8_lossy(bytes), &Options::default()).map(|target| target.address());
}

#[cfg(test)]
mod tests {
    use partitura_fuzz::smoke;

    #[test]
    fn no_message_or_url_makes_a_decoder_panic() {
        smoke("amqp-message", 20_000, super::message);
        smoke("url", 10_000, super::url);
    }
}
