//! The kinds of worlds.

use std::time::Duration;

use partitura_broker::TopicName;

use crate::core::{Core, Parking, Settings};
use crate::{Retry, Trials};

pub(super) const PARTITIONS: u32 = 2;
/// With this many crashes a message is given up.
pub(super) const CRASHES: u32 = 5;
/// With this many crashes it runs alone among those that have as many.
pub(super) const ACCUSED: u32 = 2;

/// How a world is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) parking: bool,
    pub(super) batch: usize,
    pub(super) credit: usize,
    /// The broker flags all messages that were there at the take-over as redelivered.
    pub(super) flags_old: bool,
}

pub(super) fn topic(parking: bool) -> TopicName {
    if parking { "orders.billing.parking" } else { "orders" }.parse().unwrap()
}

pub(super) fn new_core(Kind { parking, batch, credit, .. }: Kind, seed: u64) -> Core {
    Core::new(Settings {
        concurrency: 3,
        batch,
        crashes: CRASHES,
        most_begun: 2 * credit,
        trials: Trials::default(),
        retry: Retry::fixed(Duration::from_millis(100)),
        ordered: true,
        assigned: true,
        parking: parking.then(|| Parking {
            topic: topic(true),
            hold: Duration::from_millis(400),
            behind: 2,
            full_messages: 2,
            full_bytes: 1 << 20,
        }),
        // Mixed, as a random one would be.
        seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    })
}
