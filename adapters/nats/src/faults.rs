//! Versions of the server that are known to be bad.

use partitura_adapter_kit::{Fault, Version};

/// Each is warned of when connecting.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        since: Version(2, 12, 0),
        // 2.14.0 was tagged on the day after the repair, and is not said to have it.
        repaired: &[Version(2, 12, 9), Version(2, 14, 1)],
        what: "a server that was started anew may mix up the subjects of delayed messages that wait in a file",
        until: "look at what is delayed after each restart",
        source: "https://github.com/nats-io/nats-server/pull/8085",
    },
    Fault {
        since: Version(2, 12, 0),
        repaired: &[Version(2, 12, 7)],
        what: "to take back a delayed message it reads the whole stream",
        until: "expect that to be slow where much waits",
        source: "https://github.com/nats-io/nats-server/pull/8004",
    },
];
