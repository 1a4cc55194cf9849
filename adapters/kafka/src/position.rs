//! The place of a subscription in one partition: an offset, and further settled messages in the metadata of the
//! commit.
//!
//! All messages before the offset are settled. The metadata is text, so that `kafka-consumer-groups.sh` can show
//! it:
//!
//! ```text
//! p2 <o|c> <high> <birth> <runs>
//! ```
//!
//! *birth* is the birth of the topic: in another topic of the same name the offset means nothing. *high* is the
//! offset up to which messages have been delivered. `o` (open) says that an owner is at work, which may deliver
//! more without another commit. `c` (closed) says that it left, and that *high* is exact. *runs* are the lengths of
//! the stretches from the offset on that are unsettled, settled, unsettled …, five bits to a character.

use std::ops::Range;

use crate::birth::Birth;

/// The length of the longest metadata that brokers accept by default.
const LONGEST: usize = 4_096;
/// The length that is reserved for all parts but the runs.
const PROLOGUE: usize = 64;
/// The length beyond which no more messages are delivered until one near the offset is settled.
const CROWDED: usize = 3_072;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";

/// The place of a subscription in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// The birth of the topic.
    pub(crate) birth: Birth,
    /// The first offset that may be unsettled.
    pub(crate) offset: i64,
    /// The offset from which on no message was delivered, if the position is closed.
    pub(crate) high: i64,
    /// Whether an owner may have delivered messages beyond `high`.
    pub(crate) open: bool,
    /// The settled messages above the offset: ranges, ascending.
    pub(crate) settled: Vec<Range<i64>>,
}

impl Position {
    /// The position of a subscription of which no message was delivered.
    pub(crate) fn fresh(birth: Birth, offset: i64) -> Self {
        Self { birth, offset, high: offset, open: false, settled: Vec::new() }
    }

    /// The position of a subscription of which no settlement is known, and any message may have been delivered.
    pub(crate) fn unknown(birth: Birth, offset: i64) -> Self {
        Self { birth, offset, high: offset, open: true, settled: Vec::new() }
    }

    /// The metadata. It leaves out settled ranges for which there is no room. Their messages would be delivered
    /// again.
    pub(crate) fn encode(&self) -> String {
        let state = if self.open { 'o' } else { 'c' };
        let mut text = format!("p2 {state} {} {} ", self.high, self.birth);
        let mut at = self.offset;
        for range in &self.settled {
            if text.len() > LONGEST - PROLOGUE / 2 {
                break;
            }
            push_run(&mut text, range.start - at);
            push_run(&mut text, range.end - range.start);
            at = range.end;
        }
        text
    }

    /// Reads a commit. A commit of another program says nothing about messages above the offset.
    pub(crate) fn decode(offset: i64, metadata: &str) -> Self {
        Self::parse(offset, metadata).unwrap_or_else(|| Self::unknown(Birth::UNKNOWN, offset))
    }

    fn parse(offset: i64, metadata: &str) -> Option<Self> {
        let mut words = metadata.split(' ');
        let (version, state, high) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
        let birth = match version {
            "p2" => words.next()?.parse().ok()?,
            "p1" => Birth::UNKNOWN,
            _ => return None,
        };
        let runs = read_runs(words.next()?.as_bytes())?;
        let mut settled = Vec::with_capacity(runs.len() / 2);
        let mut at = offset;
        for pair in runs.chunks_exact(2) {
            let from = at.checked_add(pair[0])?;
            at = from.checked_add(pair[1])?;
            settled.push(from..at);
        }
        Some(Self { birth, offset, high, open: state != "c", settled })
    }

    /// Whether the metadata is so long that no more messages should be delivered for now.
    pub(crate) fn is_crowded(&self) -> bool {
        // A range takes at least two characters, and hardly ever more than six.
        self.settled.len() > CROWDED / 6 && self.encode().len() > CROWDED
    }
}

/// Joins ascending offsets to ranges.
pub(crate) fn ranges(offsets: impl Iterator<Item = i64>) -> Vec<Range<i64>> {
    let mut ranges: Vec<Range<i64>> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some(last) if last.end == offset => last.end += 1,
            _ => ranges.push(offset..offset + 1),
        }
    }
    ranges
}

fn push_run(text: &mut String, length: i64) {
    let mut rest = length.unsigned_abs();
    loop {
        let more = if rest >= 32 { 32 } else { 0 };
        text.push(ALPHABET[(rest % 32 + more) as usize] as char);
        rest /= 32;
        if more == 0 {
            return;
        }
    }
}

fn read_runs(text: &[u8]) -> Option<Vec<i64>> {
    let (mut runs, mut value, mut shift) = (Vec::new(), 0_i64, 0);
    for byte in text {
        let digit = ALPHABET.iter().position(|letter| letter == byte)? as i64;
        value |= (digit % 32).checked_shl(shift).filter(|_| shift < 60)?;
        shift += 5;
        if digit < 32 {
            runs.push(value);
            (value, shift) = (0, 0);
        }
    }
    Some(runs)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "the elements are ranges of offsets")]
mod tests {
    use super::*;

    fn birth(number: &str) -> Birth {
        number.parse().expect("a number")
    }

    #[test]
    fn a_position_is_read_as_it_was_written() {
        for settled in [vec![], vec![12..13, 15..18], vec![10..11], vec![1_000_000..5_000_000_000]] {
            for open in [true, false] {
                let (birth, high) = (birth("4503599627370496"), 6_000_000_000);
                let position = Position { birth, offset: 10, high, open, settled: settled.clone() };
                assert_eq!(Position::decode(10, &position.encode()), position);
            }
        }
    }

    #[test]
    fn a_position_of_the_first_format_is_read_and_its_topic_is_not_known() {
        let expected =
            Position { open: false, high: 20, settled: vec![12..13], ..Position::unknown(Birth::UNKNOWN, 10) };
        assert_eq!(Position::decode(10, "p1 c 20 CB"), expected);
    }

    #[test]
    fn a_commit_of_another_program_counts_as_open() {
        // Ten stretches of 2^60 - 1.
        let overflow = format!("p2 c 1 5 {}", "-----------f".repeat(10));
        for metadata in ["", "p1", "p1 c x ", "p2 c 1 ", "p2 c 1 x ", "p3 c 1 5 ", "p1 c 1 ä", "by hand", &overflow] {
            assert_eq!(Position::decode(7, metadata), Position::unknown(Birth::UNKNOWN, 7), "{metadata:?}");
        }
    }

    #[test]
    fn the_metadata_always_fits_and_has_the_lowest_ranges() {
        let settled: Vec<Range<i64>> = (0..100_000).map(|i| 40 * i + 1..40 * i + 2).collect();
        let position = Position { settled, ..Position::unknown(birth("5"), 0) };
        assert!(position.encode().len() <= LONGEST);
        assert!(position.is_crowded());
        let read = Position::decode(0, &position.encode());
        assert!(read.settled.len() > 500 && position.settled.starts_with(&read.settled), "{}", read.settled.len());
    }

    #[test]
    fn neighbours_become_one_range() {
        assert_eq!(ranges([1, 2, 3, 5, 7, 8].into_iter()), [1..4, 5..6, 7..9]);
    }
}
