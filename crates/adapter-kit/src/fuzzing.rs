//! Decoders of foreign bytes, to be tried with bytes that they do not expect: see `crates/workshop/fuzz`.

use partitura_broker::TopicName;

use crate::{describe_topic, member, parse_topic};

/// The heartbeat of a member.
pub fn heartbeat(bytes: &[u8]) {
    member::read_heartbeat(bytes);
}

/// The description of a topic, as it is kept at the broker.
pub fn description(bytes: &[u8]) {
    let Ok(name) = "orders".parse::<TopicName>() else { return };
    if let Some(topic) = parse_topic(&name, &String::from_utf8_lossy(bytes)) {
        assert_eq!(parse_topic(&name, &describe_topic(&topic)), Some(topic), "what was read can be written");
    }
}

#[cfg(test)]
mod tests {
    use partitura_fuzz::smoke;

    #[test]
    fn no_heartbeat_or_description_makes_a_decoder_panic() {
        smoke("heartbeat", 5_000, super::heartbeat);
        smoke("topic-description", 10_000, super::description);
    }
}
