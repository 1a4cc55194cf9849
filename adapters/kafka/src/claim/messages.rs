use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use partitura_adapter_kit::Claimed;
use partitura_broker::{Message, Partition};

use super::ledger::Grant;

/// How many unclaimed messages are kept at hand, and of how many bytes.
const UNCLAIMED: usize = 2_000;
const UNCLAIMED_BYTES: usize = 8 << 20;
/// The most messages of one claim.
const CLAIM: usize = 500;
/// Members take turns at messages. One that a member left lying this long is everybody's.
pub(super) const TURN: Duration = Duration::from_millis(30);

/// What one member has of the messages: those that it may claim, has claimed, and holds.
#[derive(Debug, Default)]
pub(super) struct ClaimedMessages {
    /// Read and not granted to anybody, as far as this member knows; and since when they are here.
    unclaimed: BTreeMap<i64, (Message, Instant)>,
    bytes: usize,
    /// Claimed, and not yet decided. All of them are at hand.
    asked: BTreeSet<i64>,
    /// Granted, and not yet settled.
    held: BTreeSet<i64>,
}

impl ClaimedMessages {
    pub(super) fn have_room(&self) -> bool {
        self.unclaimed.len() < UNCLAIMED && self.bytes < UNCLAIMED_BYTES
    }

    pub(super) fn are_empty(&self) -> bool {
        self.unclaimed.is_empty() && self.asked.is_empty() && self.held.is_empty()
    }

    /// Takes up a message that is free.
    pub(super) fn take(&mut self, offset: i64, message: Message, now: Instant) {
        if !self.unclaimed.contains_key(&offset) {
            self.bytes += message.size();
            self.unclaimed.insert(offset, (message, now));
        }
    }

    /// Whether anything can be claimed, now or when it was left lying. `ahead` is the most that may be held.
    pub(super) fn may_claim(&self, ahead: usize) -> bool {
        self.free(ahead) > 0 && self.unclaimed.len() > self.asked.len()
    }

    /// What to claim: of what is at hand, what it is this member's turn to take, and what was left lying.
    pub(super) fn claim(&mut self, ahead: usize, turn: usize, turns: usize) -> Vec<i64> {
        let mine = |offset: i64, since: &Instant| {
            usize::try_from(offset).unwrap_or_default() % turns == turn || since.elapsed() > TURN
        };
        let wanted =
            self.unclaimed.iter().filter(|(offset, (_, since))| !self.asked.contains(offset) && mine(**offset, since));
        let wanted: Vec<i64> = wanted.map(|(offset, _)| *offset).take(self.free(ahead).min(CLAIM)).collect();
        self.asked.extend(&wanted);
        wanted
    }

    /// A claim was decided: the messages that were granted, of those that were asked for. The others are somebody else's.
    pub(super) fn decided(&mut self, asked: impl Iterator<Item = i64>, granted: &[Grant]) -> Vec<Claimed<i64>> {
        let mut mine = Vec::with_capacity(granted.len());
        for Grant { offset, redelivered } in granted.iter().copied() {
            let Some(message) = self.forget(offset) else { continue };
            self.held.insert(offset);
            mine.push(Claimed { partition: Partition(0), message, redelivered, handle: offset });
        }
        for offset in asked {
            self.asked.remove(&offset);
            self.forget(offset);
        }
        mine
    }

    /// Another member got it. What this one has asked for stays at hand until that is decided: if the other is gone by
    /// then, it is granted.
    pub(super) fn is_elsewhere(&mut self, offset: i64) {
        if !self.asked.contains(&offset) {
            self.forget(offset);
        }
    }

    /// Whether this member held it until now.
    pub(super) fn settle(&mut self, offset: i64) -> bool {
        self.held.remove(&offset)
    }

    fn free(&self, ahead: usize) -> usize {
        ahead.saturating_sub(self.held.len() + self.asked.len())
    }

    fn forget(&mut self, offset: i64) -> Option<Message> {
        let (message, _) = self.unclaimed.remove(&offset)?;
        self.bytes = self.bytes.saturating_sub(message.size());
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use partitura_broker::TopicName;

    use super::super::entry::{Entry, pack};
    use super::super::ledger::{Change, Ledger};
    use super::*;

    fn with(offsets: impl Iterator<Item = i64>) -> ClaimedMessages {
        let topic = TopicName::new("shared").expect("a name");
        let mut claimed = ClaimedMessages::default();
        for offset in offsets {
            claimed.take(offset, Message::new(topic.clone(), offset.to_string(), "x"), Instant::now());
        }
        claimed
    }

    #[test]
    fn what_was_asked_for_and_went_to_others_is_let_go() {
        let mut claimed = with(0..3);
        assert_eq!(claimed.claim(10, 0, 1), [0, 1, 2]);
        let mine = claimed.decided(0..3, &[Grant { offset: 1, redelivered: false }]);
        assert_eq!(mine.iter().map(|claimed| claimed.handle).collect::<Vec<_>>(), [1]);
        assert!(claimed.settle(1) && claimed.are_empty());
    }

    #[test]
    fn what_is_held_and_asked_for_counts_against_what_may_be_held() {
        let mut claimed = with(0..10);
        assert_eq!(claimed.claim(4, 1, 2), [1, 3, 5, 7]);
        assert!(!claimed.may_claim(4));
        claimed.decided([1, 3, 5, 7].into_iter(), &[Grant { offset: 1, redelivered: false }]);
        assert_eq!(claimed.claim(4, 1, 2), [9]);
    }

    #[test]
    fn what_another_got_and_gave_back_before_the_own_claim_counts_is_granted_with_its_message() {
        let (mut claimed, mut ledger) = (with(0..1), Ledger::new(0));
        assert_eq!(claimed.claim(10, 0, 1), [0]);
        // All three are read after the claim was made, in this order.
        let claim = |name: &str| Entry::Claim(name.into(), pack([0]));
        assert_eq!(
            ledger.apply(&claim("other")),
            Change::Granted("other".into(), vec![Grant { offset: 0, redelivered: false }])
        );
        claimed.is_elsewhere(0);
        assert_eq!(ledger.apply(&Entry::Gone("other".into())), Change::Freed(vec![0]));
        let Change::Granted(_, granted) = ledger.apply(&claim("me")) else { panic!("it is free") };
        let mine = claimed.decided(0..1, &granted);
        assert!(matches!(&mine[..], [only] if only.redelivered && only.message.id.as_str() == "0"), "{mine:?}");
    }
}
