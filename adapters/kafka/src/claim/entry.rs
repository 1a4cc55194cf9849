//! The entries that members of a shared subscription write into its log, as text.

use std::fmt::Write;
use std::ops::Range;

use crate::birth::Birth;
use crate::position::ranges;

/// The name of a member, for as long as it holds a claim.
pub(super) type Name = String;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A heartbeat of the member.
    Heartbeat(Name),
    /// The member claims these messages. It gets those that are free.
    Claim(Name, Vec<Range<i64>>),
    /// The member settles these messages.
    Settle(Name, Vec<Range<i64>>),
    /// The member left, or was silent for too long: its messages are free again.
    Gone(Name),
    /// The birth of the topic. Claims and settlements of an earlier topic of this name are void.
    Topic(Birth),
    /// The state after all entries before the offset `as_of` of the log.
    Snapshot(Snapshot),
}

/// The state of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) as_of: i64,
    pub(super) birth: Birth,
    pub(super) ack_floor: i64,
    pub(super) settled: Vec<Range<i64>>,
    /// Messages that were delivered before and are free again.
    pub(super) again: Vec<Range<i64>>,
    pub(super) claims: Vec<(Name, Vec<Range<i64>>)>,
    pub(super) gone: Vec<Name>,
}

impl Entry {
    pub(super) fn encode(&self) -> String {
        match self {
            Self::Heartbeat(name) => format!("beat {name}"),
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

    /// Returns `None` for an entry that this version does not know.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (word, first) = (words.next()?, words.next()?);
        Some(match word {
            "beat" => Self::Heartbeat(first.into()),
            "gone" => Self::Gone(first.into()),
            "claim" => Self::Claim(first.into(), read_list(words.next()?)?),
            "settle" => Self::Settle(first.into(), read_list(words.next()?)?),
            "topic" => Self::Topic(first.parse().ok()?),
            // The first format had no birth.
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

/// Ranges as `3-5,9-10`; `-` is no range.
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
            Entry::Heartbeat("a".into()),
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
