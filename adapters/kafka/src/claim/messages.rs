use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use partitura_adapter_kit::Claimed;
use partitura_broker::Partition;

use super::ledger::Grant;
use crate::wire::Stored;

/// The largest number of messages that are kept unclaimed, and of their bytes.
const UNCLAIMED: usize = 2_000;
const UNCLAIMED_BYTES: usize = 8 << 20;
/// The largest number of messages in one claim.
const CLAIM: usize = 500;
/// The time after which all members may claim a message. Before, it is one member's turn.
pub(super) const TURN: Duration = Duration::from_millis(30);

/// The messages of one member: those that it may claim, has claimed, and holds.
#[derive(Debug, Default)]
pub(super) struct ClaimedMessages {
    /// The messages that were read and are not granted to any member, with the time of the reading.
    unclaimed: BTreeMap<i64, (Stored, Instant)>,
    bytes: usize,
    /// Claimed messages without a decision. All of them are among the unclaimed.
    requested: BTreeSet<i64>,
    /// Granted and unsettled messages.
    held: BTreeSet<i64>,
}

impl ClaimedMessages {
    pub(super) fn have_room(&self) -> bool {
        self.unclaimed.len() < UNCLAIMED && self.bytes < UNCLAIMED_BYTES
    }

    pub(super) fn are_empty(&self) -> bool {
        self.unclaimed.is_empty() && self.requested.is_empty() && self.held.is_empty()
    }

    /// Adds a free message.
    pub(super) fn take(&mut self, stored: Stored, now: Instant) {
        if !self.unclaimed.contains_key(&stored.offset) {
            self.bytes += stored.message.size();
            self.unclaimed.insert(stored.offset, (stored, now));
        }
    }

    /// Whether a message can be claimed, now or after its turn. `ahead` is the largest number of held messages.
    pub(super) fn may_claim(&self, ahead: usize) -> bool {
        self.free(ahead) > 0 && self.unclaimed.len() > self.requested.len()
    }

    /// The messages to claim: those for which it is this member's turn, and those whose turn has passed.
    pub(super) fn claim(&mut self, ahead: usize, turn: usize, turns: usize) -> Vec<i64> {
        let mine = |offset: i64, since: &Instant| {
            usize::try_from(offset).unwrap_or_default() % turns == turn || since.elapsed() > TURN
        };
        let wanted = self
            .unclaimed
            .iter()
            .filter(|(offset, (_, since))| !self.requested.contains(offset) && mine(**offset, since));
        let wanted: Vec<i64> = wanted.map(|(offset, _)| *offset).take(self.free(ahead).min(CLAIM)).collect();
        self.requested.extend(&wanted);
        wanted
    }

    /// Takes note of the decision about a claim. Returns the granted messages, and drops the others.
    pub(super) fn decided(&mut self, requested: impl Iterator<Item = i64>, granted: &[Grant]) -> Vec<Claimed<i64>> {
        let mut mine = Vec::with_capacity(granted.len());
        for Grant { offset, redelivered } in granted.iter().copied() {
            let Some(Stored { message, is_repeated, .. }) = self.forget(offset) else { continue };
            self.held.insert(offset);
            let redelivered = redelivered || is_repeated;
            mine.push(Claimed { partition: Partition(0), message, redelivered, handle: offset });
        }
        for offset in requested {
            self.requested.remove(&offset);
            self.forget(offset);
        }
        mine
    }

    /// Takes note that another member got a message. A requested message stays until its claim is decided: if the
    /// other member is gone by then, it is granted.
    pub(super) fn drop_if_not_requested(&mut self, offset: i64) {
        if !self.requested.contains(&offset) {
            self.forget(offset);
        }
    }

    /// Settles a message. Returns whether this member held it.
    pub(super) fn settle(&mut self, offset: i64) -> bool {
        self.held.remove(&offset)
    }

    fn free(&self, ahead: usize) -> usize {
        ahead.saturating_sub(self.held.len() + self.requested.len())
    }

    fn forget(&mut self, offset: i64) -> Option<Stored> {
        let (stored, _) = self.unclaimed.remove(&offset)?;
        self.bytes = self.bytes.saturating_sub(stored.message.size());
        Some(stored)
    }
}

#[cfg(test)]
mod tests {
    use partitura_broker::{Message, TopicName};

    use super::super::entry::{Entry, pack};
    use super::super::ledger::{Change, Ledger};
    use super::*;

    fn with(offsets: impl Iterator<Item = i64>) -> ClaimedMessages {
        let topic = TopicName::new("shared").expect("a name");
        let mut claimed = ClaimedMessages::default();
        for offset in offsets {
            let message = Message::new(topic.clone(), offset.to_string(), "x");
            claimed.take(Stored { offset, message, is_repeated: false }, Instant::now());
        }
        claimed
    }

    #[test]
    fn messages_that_went_to_other_members_are_dropped() {
        let mut claimed = with(0..3);
        assert_eq!(claimed.claim(10, 0, 1), [0, 1, 2]);
        let mine = claimed.decided(0..3, &[Grant { offset: 1, redelivered: false }]);
        assert_eq!(mine.iter().map(|claimed| claimed.handle).collect::<Vec<_>>(), [1]);
        assert!(claimed.settle(1) && claimed.are_empty());
    }

    #[test]
    fn held_and_requested_messages_count_against_the_limit() {
        let mut claimed = with(0..10);
        assert_eq!(claimed.claim(4, 1, 2), [1, 3, 5, 7]);
        assert!(!claimed.may_claim(4));
        claimed.decided([1, 3, 5, 7].into_iter(), &[Grant { offset: 1, redelivered: false }]);
        assert_eq!(claimed.claim(4, 1, 2), [9]);
    }

    #[test]
    fn a_message_that_another_member_gave_back_before_the_own_claim_is_granted_with_its_contents() {
        let (mut claimed, mut ledger) = (with(0..1), Ledger::new(0));
        assert_eq!(claimed.claim(10, 0, 1), [0]);
        // All three are read after the claim was made, in this order.
        let claim = |name: &str| Entry::Claim(name.into(), pack([0]));
        assert_eq!(
            ledger.apply(&claim("other")),
            Change::Granted("other".into(), vec![Grant { offset: 0, redelivered: false }])
        );
        claimed.drop_if_not_requested(0);
        assert_eq!(ledger.apply(&Entry::Gone("other".into())), Change::Freed(vec![0]));
        let Change::Granted(_, granted) = ledger.apply(&claim("me")) else { panic!("it is free") };
        let mine = claimed.decided(0..1, &granted);
        assert!(matches!(&mine[..], [only] if only.redelivered && only.message.id.as_str() == "0"), "{mine:?}");
    }
}
