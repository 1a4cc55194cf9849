//! What members of a shared subscription write into its log, as text.

use std::fmt::Write;
use std::ops::Range;

use crate::birth::Birth;
use crate::position::ranges;

/// The name of a member, for as long as it holds a claim.
pub(super) type Name = String;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// The member is there.
    Beat(Name),
    /// It takes these messages, as far as they are free.
    Claim(Name, Vec<Range<i64>>),
    /// It has done with these.
    Settle(Name, Vec<Range<i64>>),
    /// It left, or was not heard for too long: what it holds is free again.
    Gone(Name),
    /// This is the topic: what was claimed and settled of another, which had its name before, is void.
    Topic(Birth),
    /// What all entries before the offset `as_of` of the log amount to.
    Snapshot(Snapshot),
}

/// The state of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) as_of: i64,
    pub(super) birth: Birth,
    pub(super) ack_floor: i64,
    pub(super) settled: Vec<Range<i64>>,
    /// What was delivered before, and is free again.
    pub(super) again: Vec<Range<i64>>,
    pub(super) claims: Vec<(Name, Vec<Range<i64>>)>,
    pub(super) gone: Vec<Name>,
}

impl Entry {
    pub(super) fn encode(&self) -> String {
        match self {
            Self::Beat(name) => format!("beat {name}"),
            Self::Gone(name) => format!("gone {name}"),
            Self::Topic(birth) => format!("topic {birth}"),
            Self::Claim(name, offsets) => format!("claim {name} {}", list(offsets)),
            Self::Settle(name, offsets) => format!("settle {name} {}", list(offsets)),
            Self::Snapshot(Snapshot { as_of, birth, ack_floor, settled, again, claims, gone }) => {
                let mut text =
                    format!("state {birth} {as_of} {ack_floor} {} {} {}", list(settled), list(again), gone.join(","));
                for (name, offsets) in claims {
                    // Writing into a string does not fail.
                    let _ = write!(text, " {name} {}", list(offsets));
                }
                text
            }
        }
    }

    /// `None` for what this version does not know.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (word, first) = (words.next()?, words.next()?);
        Some(match word {
            "beat" => Self::Beat(first.into()),
            "gone" => Self::Gone(first.into()),
            "claim" => Self::Claim(first.into(), read_list(words.next()?)?),
            "settle" => Self::Settle(first.into(), read_list(words.next()?)?),
            "topic" => Self::Topic(first.parse().ok()?),
            // The first format did not say of which topic.
            "snapshot" | "state" => {
                let (birth, as_of) = match word {
                    "state" => (first.parse().ok()?, words.next()?),
                    _ => (Birth::UNKNOWN, first),
                };
                let (as_of, ack_floor) = (as_of.parse().ok()?, words.next()?.parse().ok()?);
                let (settled, again) = (read_list(words.next()?)?, read_list(words.next()?)?);
                let gone = words.next()?.split(',').filter(|name| !name.is_empty()).map(Into::into).collect();
                let mut claims = Vec::new();
                while let Some(name) = words.next() {
                    claims.push((name.into(), read_list(words.next()?)?));
                }
                Self::Snapshot(Snapshot { as_of, birth, ack_floor, settled, again, claims, gone })
            }
            _ => return None,
        })
    }
}

/// `3-5,9-10`, ends excluded; `-` is nothing.
fn list(offsets: &[Range<i64>]) -> String {
    if offsets.is_empty() {
        return "-".into();
    }
    let each: Vec<String> = offsets.iter().map(|range| format!("{}-{}", range.start, range.end)).collect();
    each.join(",")
}

fn read_list(text: &str) -> Option<Vec<Range<i64>>> {
    if text == "-" {
        return Some(Vec::new());
    }
    let read = |range: &str| {
        let (from, to) = range.split_once('-')?;
        Some(from.parse().ok()?..to.parse().ok()?)
    };
    text.split(',').map(read).collect()
}

/// Ascending offsets as ranges.
pub(super) fn pack(offsets: impl IntoIterator<Item = i64>) -> Vec<Range<i64>> {
    ranges(offsets.into_iter())
}

/// The offsets of ranges.
pub(super) fn unpack(ranges: &[Range<i64>]) -> impl Iterator<Item = i64> + '_ {
    ranges.iter().cloned().flatten()
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "the elements are ranges of offsets")]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_noise_is_not() {
        let birth = "12".parse().expect("a number");
        let snapshot = Snapshot {
            as_of: 7,
            birth,
            ack_floor: 3,
            settled: vec![4..6],
            again: vec![],
            claims: vec![("a".into(), vec![3..4]), ("b".into(), vec![8..9, 11..12])],
            gone: vec!["c".into(), "d".into()],
        };
        for entry in [
            Entry::Beat("a".into()),
            Entry::Gone("a".into()),
            Entry::Claim("a".into(), vec![1..2, 5..9]),
            Entry::Settle("a".into(), vec![1..2]),
            Entry::Topic(birth),
            Entry::Snapshot(snapshot.clone()),
        ] {
            assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        }
        let first_format = "snapshot 7 3 4-6 - c,d a 3-4 b 8-9,11-12";
        let expected = Snapshot { birth: Birth::UNKNOWN, ..snapshot };
        assert_eq!(Entry::decode(first_format), Some(Entry::Snapshot(expected)));
        for noise in ["", "beat", "claim a x-1", "claim a 1", "dance a", "snapshot 1 2 -"] {
            assert_eq!(Entry::decode(noise), None, "{noise:?}");
        }
    }
}
