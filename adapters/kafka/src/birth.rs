//! Which topic of a name it is: an operator may delete one and make it anew, and then its offsets mean something else.
//!
//! Kafka gives every topic an id, which the client does not tell. So a topic is created with a number of our own, by chance,
//! in a setting that means nothing to it, and what is committed says of which topic it is. Two topics that another program
//! made, with the same settings, are not told apart by this; that offsets go back still shows there.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use rdkafka::admin::ConfigResource;

/// Where a topic that is deleted by time, or not at all, has its number: it means something to compacted topics only. Its
/// lowest bits are the label: see `topology`.
pub(crate) const LABEL: &str = "min.compaction.lag.ms";
const LABEL_BITS: u32 = 3;
/// From here on it is a number of ours, and below twice that: three days, for a cluster may have an upper limit.
const OURS: u64 = 1 << (LABEL_BITS + CHANCE_BITS);
/// Where a compacted topic has its number: it means something to the others only.
const COMPACTED: &str = "retention.ms";
/// So long that nobody would miss anything if it did mean something, in milliseconds.
const FOR_EVER: u64 = 1 << 52;
/// How many bits are up to chance.
const CHANCE_BITS: u32 = 24;

/// Tells a topic from others that had its name before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Birth(u64);

impl Birth {
    /// Nobody may, or could, find out.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// From a topic's settings.
    pub(crate) fn from_settings(config: &ConfigResource) -> Self {
        let value = |name: &str| config.get(name).and_then(|entry| entry.value.as_deref());
        let name = if value("cleanup.policy") == Some("compact") { COMPACTED } else { LABEL };
        let number = value(name).and_then(|value| value.parse::<i64>().ok());
        // From -1 on, which is for ever.
        number.and_then(|number| u64::try_from(number + 2).ok()).map_or(Self::UNKNOWN, Self)
    }

    pub(crate) fn is_known(self) -> bool {
        self != Self::UNKNOWN
    }

    /// Whether it is another topic, as far as both are known.
    pub(crate) fn differs(self, other: Self) -> bool {
        self.is_known() && other.is_known() && self != other
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }

    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Birth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Birth {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// The setting of a topic to be created that has this label.
pub(crate) fn labelled(label: u8) -> (&'static str, String) {
    (LABEL, (OURS + (chance() << LABEL_BITS) + u64::from(label)).to_string())
}

/// The label in such a setting; 0 is none. Before there were births, it was the whole value.
pub(crate) fn label(value: u64) -> u64 {
    let plain = value < 1 << LABEL_BITS;
    if plain || (OURS..2 * OURS).contains(&value) { value % (1 << LABEL_BITS) } else { 0 }
}

/// The setting of a compacted topic to be created.
pub(crate) fn compacted() -> (&'static str, String) {
    (COMPACTED, (FOR_EVER + chance()).to_string())
}

fn chance() -> u64 {
    let random = uuid::Uuid::now_v7().as_u128() as u64;
    random % (1 << CHANCE_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_differs_from_nothing() {
        let [a, b] = [Birth(5), Birth(6)];
        assert!(a.differs(b) && !a.differs(a));
        assert!(!a.differs(Birth::UNKNOWN) && !Birth::UNKNOWN.differs(a));
    }

    #[test]
    fn a_label_is_read_as_it_was_written_and_not_where_nobody_wrote_it() {
        for expected in 1..=4 {
            let value: u64 = labelled(expected).1.parse().expect("a number");
            assert_eq!((label(value), label(expected.into())), (expected.into(), expected.into()));
            assert!(value < 4 * 86_400_000, "{value}");
        }
        assert_eq!([0, 100, 3_600_001, u64::MAX].map(label), [0; 4]);
        assert_ne!(labelled(1), labelled(1));
    }
}
