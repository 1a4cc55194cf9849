//! The spans and counters that every adapter emits, so that they look the same whatever the broker.
//!
//! Names follow the OpenTelemetry semantic conventions for messaging. Payloads, keys and credentials are never
//! recorded.

use tracing::Span;

use crate::{Error, SubscriptionName, TopicName};

/// The target of every span and event of an adapter.
pub const TARGET: &str = "partitura::broker";

/// A batch on its way to the broker.
pub fn publish_span(system: &'static str, batch: usize) -> Span {
    sent(system, batch);
    tracing::debug_span!(
        target: TARGET,
        "send",
        messaging.system = system,
        messaging.operation.name = "publish",
        messaging.batch.message_count = batch,
    )
}

/// Counts messages that are given to the broker, again if they are sent again. Without the feature `metrics` it does
/// nothing.
pub fn sent(system: &str, messages: usize) {
    #[cfg(feature = "metrics")]
    metrics::counter!("messaging_client_sent_messages_total", "messaging_system" => system.to_owned())
        .increment(messages as u64);
    #[cfg(not(feature = "metrics"))]
    let _ = (system, messages);
}

/// A consumer of a subscription, for as long as it lives.
pub fn consumer_span(system: &'static str, topics: &[TopicName], subscription: Option<&SubscriptionName>) -> Span {
    tracing::debug_span!(
        target: TARGET,
        "receive",
        messaging.system = system,
        messaging.operation.name = "receive",
        messaging.destination.name = topics.first().map_or("", TopicName::as_str),
        messaging.consumer.group.name = subscription.map_or("", SubscriptionName::as_str),
    )
}

/// Settlements that came too late: of an old epoch, or of a slot that was settled already.
pub fn stale_settlements(system: &'static str, count: u64) {
    if count > 0 {
        tracing::debug!(target: TARGET, { messaging.system = system, count }, "stale settlements ignored");
    }
}

/// The connection, or the storage, failed and is being built anew.
pub fn reconnecting(system: &'static str, error: &Error, attempt: u32) {
    tracing::warn!(target: TARGET, { messaging.system = system, %error, attempt }, "reconnecting");
}
