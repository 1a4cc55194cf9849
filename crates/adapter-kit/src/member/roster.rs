use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::MemberId as Id;

/// The interval of a member's beats.
pub(super) const BEAT: Duration = Duration::from_millis(700);
/// The time for which a member counts as present without a beat.
const SILENCE: Duration = Duration::from_secs(3);

/// The beats of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// "I am new: who is there?"
    Joining,
    /// "I am there."
    Here,
    /// "I gave something up: look again."
    Released,
    /// "I am going."
    Leaving,
}

/// The version of this format. A beat of another version is ignored.
const VERSION: u8 = 1;
const WORDS: [Word; 4] = [Word::Joining, Word::Here, Word::Released, Word::Leaving];

pub(super) fn encode(word: Word, id: Id) -> Bytes {
    let mut beat = Vec::with_capacity(10);
    beat.push(VERSION);
    beat.push(word as u8);
    beat.extend_from_slice(&id.to_be_bytes());
    beat.into()
}

pub(super) fn decode(beat: &[u8]) -> Option<(Word, Id)> {
    let [VERSION, word, id @ ..] = beat else { return None };
    Some((*WORDS.get(usize::from(*word))?, Id::from_be_bytes(id.try_into().ok()?)))
}

/// The present members, as far as this member knows.
#[derive(Debug)]
pub(super) struct Roster {
    me: Id,
    others: HashMap<Id, Instant>,
}

impl Roster {
    pub(super) fn new(me: Id) -> Self {
        Self { me, others: HashMap::new() }
    }

    /// Takes a beat. Returns whether it changes the membership.
    pub(super) fn heard(&mut self, word: Word, id: Id, now: Instant) -> bool {
        if id == self.me {
            return false;
        }
        match word {
            Word::Leaving => self.others.remove(&id).is_some(),
            Word::Joining | Word::Here | Word::Released => self.others.insert(id, now).is_none(),
        }
    }

    /// Forgets members that have been silent for too long. Returns whether there was one.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.others.len();
        self.others.retain(|_, heard| now.duration_since(*heard) < SILENCE);
        before != self.others.len()
    }

    /// Restarts all time limits: no beats could be received until now, so silence means nothing.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.others.values_mut().for_each(|heard| *heard = now);
    }

    /// All members, this one included.
    pub(super) fn members(&self) -> Vec<Id> {
        self.others.keys().copied().chain([self.me]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_read_as_it_was_written_and_noise_is_not() {
        for word in WORDS {
            assert_eq!(decode(&encode(word, 7)), Some((word, 7)));
        }
        for noise in [&b""[..], b"\x01", b"\x01\x09aaaaaaaa", b"\x02\x00aaaaaaaa", b"\x01\x00aaaaaaaaa"] {
            assert_eq!(decode(noise), None);
        }
    }

    #[test]
    fn the_silent_are_forgotten_unless_nobody_could_be_heard() {
        let (mut roster, start) = (Roster::new(1), Instant::now());
        assert!(roster.heard(Word::Joining, 2, start));
        assert!(!roster.heard(Word::Here, 2, start + BEAT), "known already");
        assert!(!roster.heard(Word::Here, 1, start), "that was me");
        roster.excuse(start + SILENCE * 3);
        assert!(!roster.expire(start + SILENCE * 3 + BEAT));
        assert!(roster.expire(start + SILENCE * 4));
        assert_eq!(roster.members(), [1]);
    }

    #[test]
    fn who_leaves_is_gone_at_once() {
        let mut roster = Roster::new(1);
        roster.heard(Word::Here, 2, Instant::now());
        assert!(roster.heard(Word::Leaving, 2, Instant::now()));
        assert_eq!(roster.members(), [1]);
    }
}
