use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, Name, Snapshot, pack, unpack};
use crate::birth::Birth;

/// The number of gone members that are remembered. Entries of earlier ones cannot come any more.
const REMEMBERED: usize = 1_000;

/// The state of a shared subscription after entries of its log: the holder of each message, and the settled
/// messages. All members that have read the same entries have the same ledger, so a claim is decided without
/// asking.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The birth of the topic.
    birth: Birth,
    /// All messages before it are settled.
    ack_floor: i64,
    settled: BTreeSet<i64>,
    again: BTreeSet<i64>,
    claims: BTreeMap<i64, Name>,
    /// Gone members. Their claims are void: such entries may still be on their way.
    gone: BTreeSet<Name>,
}

/// The change by an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// The member got these messages.
    Granted(Name, Vec<Grant>),
    /// These messages are free again.
    Freed(Vec<i64>),
    /// The topic was created again: none of its messages is claimed or settled.
    CreatedAgain,
}

/// A message that a member got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) offset: i64,
    /// Whether it may have been delivered before.
    pub(super) redelivered: bool,
}

impl Ledger {
    /// The state in which no message is claimed, and those from `ack_floor` on are unsettled.
    pub(super) fn new(ack_floor: i64) -> Self {
        let (settled, again, claims, gone) = Default::default();
        Self { birth: Birth::UNKNOWN, ack_floor, settled, again, claims, gone }
    }

    pub(super) fn restore(snapshot: &Snapshot) -> Self {
        let claims = snapshot.claims.iter().flat_map(|(name, offsets)| unpack(offsets).map(|o| (o, name.clone())));
        Self {
            birth: snapshot.birth,
            ack_floor: snapshot.ack_floor,
            settled: unpack(&snapshot.settled).collect(),
            again: unpack(&snapshot.again).collect(),
            claims: claims.collect(),
            gone: snapshot.gone.iter().cloned().collect(),
        }
    }

    pub(super) fn snapshot(&self, as_of: i64) -> Snapshot {
        let mut claims: BTreeMap<&Name, Vec<i64>> = BTreeMap::new();
        for (offset, name) in &self.claims {
            claims.entry(name).or_default().push(*offset);
        }
        Snapshot {
            as_of,
            birth: self.birth,
            ack_floor: self.ack_floor,
            settled: pack(self.settled.iter().copied()),
            again: pack(self.again.iter().copied()),
            claims: claims.into_iter().map(|(name, offsets)| (name.clone(), pack(offsets))).collect(),
            gone: self.gone.iter().cloned().collect(),
        }
    }

    /// The birth of the topic, as far as an entry says it.
    pub(super) fn birth(&self) -> Birth {
        self.birth
    }

    pub(super) fn ack_floor(&self) -> i64 {
        self.ack_floor
    }

    /// Whether a message may be claimed.
    pub(super) fn is_free(&self, offset: i64) -> bool {
        offset >= self.ack_floor && !self.settled.contains(&offset) && !self.claims.contains_key(&offset)
    }

    /// The members that hold messages.
    pub(super) fn holders(&self) -> BTreeSet<&Name> {
        self.claims.values().collect()
    }

    /// Takes note that no message before `offset` exists any more.
    pub(super) fn truncated(&mut self, offset: i64) {
        if offset > self.ack_floor && self.claims.range(..offset).next().is_none() {
            self.ack_floor = offset;
            self.settled = self.settled.split_off(&offset);
            self.again = self.again.split_off(&offset);
            self.advance();
        }
    }

    pub(super) fn apply(&mut self, entry: &Entry) -> Change {
        match entry {
            Entry::Claim(name, offsets) if !self.gone.contains(name) => {
                let free: Vec<i64> = unpack(offsets).filter(|offset| self.is_free(*offset)).collect();
                self.claims.extend(free.iter().map(|offset| (*offset, name.clone())));
                let grant = |offset| Grant { offset, redelivered: self.again.contains(&offset) };
                Change::Granted(name.clone(), free.into_iter().map(grant).collect())
            }
            Entry::Settle(name, offsets) => {
                for offset in unpack(offsets) {
                    if self.claims.get(&offset) == Some(name) {
                        self.claims.remove(&offset);
                        self.again.remove(&offset);
                        self.settled.insert(offset);
                    }
                }
                self.advance();
                Change::None
            }
            Entry::Gone(name) => {
                self.gone.insert(name.clone());
                if self.gone.len() > REMEMBERED {
                    // Names begin with the time at which they were created.
                    self.gone.pop_first();
                }
                let freed: Vec<i64> =
                    self.claims.iter().filter(|(_, holder)| *holder == name).map(|(offset, _)| *offset).collect();
                self.claims.retain(|_, holder| holder != name);
                self.again.extend(&freed);
                Change::Freed(freed)
            }
            Entry::Topic(birth) if self.birth.differs(*birth) => {
                *self = Self { birth: *birth, gone: std::mem::take(&mut self.gone), ..Self::new(0) };
                Change::CreatedAgain
            }
            Entry::Topic(birth) => {
                self.birth = *birth;
                Change::None
            }
            Entry::Heartbeat(_) | Entry::Claim(..) | Entry::Snapshot(_) => Change::None,
        }
    }

    fn advance(&mut self) {
        while self.settled.remove(&self.ack_floor) {
            self.ack_floor += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, offsets: &[i64]) -> Entry {
        Entry::Claim(name.into(), pack(offsets.iter().copied()))
    }

    fn settle(name: &str, offsets: &[i64]) -> Entry {
        Entry::Settle(name.into(), pack(offsets.iter().copied()))
    }

    fn first(offset: i64) -> Grant {
        Grant { offset, redelivered: false }
    }

    #[test]
    fn the_first_claim_counts() {
        let mut ledger = Ledger::new(5);
        assert_eq!(ledger.apply(&claim("a", &[5, 6])), Change::Granted("a".into(), vec![first(5), first(6)]));
        assert_eq!(ledger.apply(&claim("b", &[4, 6, 7])), Change::Granted("b".into(), vec![first(7)]));
    }

    #[test]
    fn only_the_holder_settles_and_the_ack_floor_never_passes_a_held_message() {
        let mut ledger = Ledger::new(0);
        ledger.apply(&claim("a", &[0, 1, 2]));
        ledger.apply(&settle("b", &[0]));
        ledger.apply(&settle("a", &[1, 2]));
        assert_eq!(ledger.ack_floor(), 0);
        ledger.apply(&settle("a", &[0]));
        assert_eq!((ledger.ack_floor(), ledger.is_free(2), ledger.is_free(3)), (3, false, true));
    }

    #[test]
    fn messages_of_a_gone_member_are_free_and_flagged_and_its_later_entries_are_void() {
        let mut ledger = Ledger::new(0);
        ledger.apply(&claim("a", &[0, 1]));
        ledger.apply(&settle("a", &[0]));
        assert_eq!(ledger.apply(&Entry::Gone("a".into())), Change::Freed(vec![1]));
        assert_eq!(ledger.apply(&claim("a", &[2])), Change::None);
        assert_eq!(
            ledger.apply(&claim("b", &[1, 2])),
            Change::Granted("b".into(), vec![Grant { offset: 1, redelivered: true }, first(2)])
        );
        ledger.apply(&settle("a", &[1]));
        assert!(ledger.holders().contains(&"b".to_owned()) && !ledger.is_free(1));
    }

    #[test]
    fn settlements_of_another_topic_are_void() {
        let topic = |number: &str| Entry::Topic(number.parse().expect("a number"));
        let mut ledger = Ledger::new(0);
        ledger.apply(&claim("a", &[0, 1]));
        assert_eq!(ledger.apply(&topic("5")), Change::None);
        ledger.apply(&settle("a", &[0]));
        assert_eq!((ledger.apply(&topic("5")), ledger.ack_floor()), (Change::None, 1));
        let mut copy = Ledger::restore(&ledger.snapshot(9));
        for ledger in [&mut ledger, &mut copy] {
            assert_eq!(ledger.apply(&topic("6")), Change::CreatedAgain);
            assert!(ledger.is_free(0) && ledger.is_free(1) && ledger.holders().is_empty());
        }
    }

    #[test]
    fn a_ledger_goes_on_from_its_snapshot() {
        let mut ledger = Ledger::new(0);
        for entry in [claim("a", &[0, 1, 2, 3]), settle("a", &[1, 3]), claim("b", &[4, 5]), Entry::Gone("b".into())] {
            ledger.apply(&entry);
        }
        let snapshot = ledger.snapshot(9);
        let mut copy = Ledger::restore(&snapshot);
        assert_eq!(copy.snapshot(9), snapshot);
        let next = claim("c", &[0, 4, 6]);
        assert_eq!(copy.apply(&next), ledger.apply(&next));
    }
}
