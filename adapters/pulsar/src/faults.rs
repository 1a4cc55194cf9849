//! Versions of the broker with known faults.

use partitura_adapter_kit::{Fault, Version};

/// The faults of brokers to which batches are sent.
pub(crate) const WITH_BATCHES: &[Fault] = &[Fault {
    since: Version(2, 6, 0),
    // Merged in September 2026, after 4.0.13 and 4.2.4.
    repaired: &[Version(4, 0, 14), Version(4, 2, 5)],
    what: "when a topic moves, it may forget which messages of a batch are settled, and these come again",
    until: "let handlers expect it, or connect with batching=off",
    source: "https://github.com/apache/pulsar/pull/26474",
}];

/// The faults of brokers that track delayed messages in buckets.
pub(crate) const WITH_BUCKETS: &[Fault] = &[Fault {
    since: Version(3, 0, 0),
    repaired: &[Version(4, 0, 13), Version(4, 2, 4)],
    what: "a delayed message that falls due while its bucket is loaded may be skipped",
    until: "use the tracker in memory (InMemoryDelayedDeliveryTrackerFactory)",
    source: "https://github.com/apache/pulsar/pull/26230",
}];
