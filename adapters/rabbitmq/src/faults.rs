//! Versions of the server with known faults.

use partitura_adapter_kit::{Fault, Version};

/// A warning about each is logged when a broker connects to such a server.
pub(crate) const FAULTS: &[Fault] = &[Fault {
    since: Version(4, 3, 0),
    repaired: &[Version(4, 3, 6)],
    what: "a partition delivers nothing any more once each of its consumers has held a message for longer than the \
           consumer_timeout",
    until: "put the server's consumer_timeout into the URL, as hold=SECONDS, so that nothing is held for as long",
    source: "https://github.com/rabbitmq/rabbitmq-server/issues/17317",
}];
