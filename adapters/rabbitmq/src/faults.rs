//! Versions of the server that are known to be bad.

use partitura_adapter_kit::{Fault, Version};

/// Each is warned of when connecting.
pub(crate) const FAULTS: &[Fault] = &[Fault {
    since: Version(4, 3, 0),
    repaired: &[Version(4, 3, 6)],
    what: "a partition of which each consumer has held a message for longer than the consumer_timeout delivers nothing any more",
    until: "put the server's consumer_timeout into the URL, as hold=SECONDS, so that nothing is held for as long",
    source: "https://github.com/rabbitmq/rabbitmq-server/issues/17317",
}];
