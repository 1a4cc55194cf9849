//! The birth of a topic tells it from earlier topics of its name. An operator may delete a topic and create it
//! again, and then its offsets mean something else.
//!
//! Kafka gives every topic an id, which the client does not return. So a topic is created with a random number in a
//! setting that means nothing to it, and a commit contains the number of its topic. Two topics that another program
//! created with the same settings have the same birth. The adapter still notices that their offsets went back.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use rdkafka::admin::ConfigResource;

/// The setting for the birth of a topic that is not compacted: it means something to compacted topics only. Its
/// lowest bits are the label: see `route`.
pub(crate) const LABEL: &str = "min.compaction.lag.ms";
const LABEL_BITS: u32 = 3;
/// Births of ours begin here, and end before twice that value: three days, since a cluster may have an upper limit.
const OURS: u64 = 1 << (LABEL_BITS + RANDOM_BITS);
/// The setting for the birth of a compacted topic: it means something to the other topics only.
const COMPACTED: &str = "retention.ms";
/// A time so long that no record would be missed if the setting did mean something, in milliseconds.
const FOR_EVER: u64 = 1 << 52;
/// The number of random bits.
const RANDOM_BITS: u32 = 24;

/// The birth of a topic, which tells it from others that had its name before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Birth(u64);

impl Birth {
    /// The birth of a topic whose settings this client may not or could not read.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// Reads the birth from the settings of a topic.
    pub(crate) fn from_settings(config: &ConfigResource) -> Self {
        let value = |name: &str| config.get(name).and_then(|entry| entry.value.as_deref());
        let name = if value("cleanup.policy") == Some("compact") { COMPACTED } else { LABEL };
        let number = value(name).and_then(|value| value.parse::<i64>().ok());
        // The lowest value is -1, which means for ever.
        number.and_then(|number| u64::try_from(number + 2).ok()).map_or(Self::UNKNOWN, Self)
    }

    pub(crate) fn is_known(self) -> bool {
        self != Self::UNKNOWN
    }

    /// Whether these are different topics, as far as both births are known.
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

/// A setting of a new topic that contains its birth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

/// The setting of a new topic with this label.
pub(crate) fn labelled(label: u8) -> Setting {
    Setting { name: LABEL, value: (OURS + (random() << LABEL_BITS) + u64::from(label)).to_string() }
}

/// The label in such a setting; 0 if it has none. In the first format the label was the whole value.
pub(crate) fn label(value: u64) -> u64 {
    let plain = value < 1 << LABEL_BITS;
    if plain || (OURS..2 * OURS).contains(&value) { value % (1 << LABEL_BITS) } else { 0 }
}

/// The setting of a new compacted topic.
pub(crate) fn compacted() -> Setting {
    Setting { name: COMPACTED, value: (FOR_EVER + random()).to_string() }
}

/// The setting with the birth, of all settings of a new topic.
pub(crate) fn setting(all: &[(&str, &str)]) -> Option<Setting> {
    let name = if all.contains(&("cleanup.policy", "compact")) { COMPACTED } else { LABEL };
    all.iter().find(|(other, _)| *other == name).map(|(_, value)| Setting { name, value: (*value).to_owned() })
}

fn random() -> u64 {
    let number = uuid::Uuid::now_v7().as_u128() as u64;
    number % (1 << RANDOM_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_birth_differs_from_none() {
        let [a, b] = [Birth(5), Birth(6)];
        assert!(a.differs(b) && !a.differs(a));
        assert!(!a.differs(Birth::UNKNOWN) && !Birth::UNKNOWN.differs(a));
    }

    #[test]
    fn a_label_is_read_as_it_was_written_and_other_numbers_have_none() {
        for expected in 1..=4 {
            let value: u64 = labelled(expected).value.parse().expect("a number");
            assert_eq!((label(value), label(expected.into())), (expected.into(), expected.into()));
            assert!(value < 4 * 86_400_000, "{value}");
        }
        assert_eq!([0, 100, 3_600_001, u64::MAX].map(label), [0; 4]);
        assert_ne!(labelled(1), labelled(1));
    }
}
