//! Versions of the server with known faults.

use partitura_adapter_kit::{Fault, Version};

/// A warning about each is logged when a broker connects to such a server.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        since: Version(2, 12, 0),
        // 2.14.0 was tagged on the day after the repair, and is not said to have it.
        repaired: &[Version(2, 12, 9), Version(2, 14, 1)],
        what: "a server that was started anew may mix up the subjects of delayed messages that wait in a file",
        until: "check the delayed messages after each restart",
        source: "https://github.com/nats-io/nats-server/pull/8085",
    },
    Fault {
        since: Version(2, 12, 0),
        repaired: &[Version(2, 12, 7)],
        what: "the cancellation of a delayed message reads the whole stream",
        until: "expect cancellation to be slow while many messages wait",
        source: "https://github.com/nats-io/nats-server/pull/8004",
    },
];
