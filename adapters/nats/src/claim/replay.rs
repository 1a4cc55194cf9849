//! The order in which a new owner gets the unsettled messages of the previous owner.
//!
//! The server first sends the messages again that were delivered and not acknowledged. It sends them in order, unless
//! the previous owner had lost the partition in the middle of its own replay. So all of them are collected and sorted
//! before any is given out. Afterwards messages come in the order of the stream.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::acks::Place;

/// The messages that arrive for the owner of a partition, and the order in which it gives them out.
#[derive(Debug)]
pub(crate) struct Replay<M> {
    /// The number of unacknowledged messages that the server sends again. `None` once all have come.
    awaited: Option<usize>,
    collected: BTreeMap<u64, (Place, M)>,
    ready: VecDeque<(Place, M)>,
    /// The highest number that became ready. During one claim, a message up to this number has come before.
    highest: u64,
    /// The messages that are given out and not settled.
    held: HashSet<u64>,
}

/// The treatment of a message that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is kept, and given out in its order.
    Kept,
    /// It is kept or given out already.
    Duplicate,
    /// It was settled, and the acknowledgement did not reach the server.
    Settled,
}

impl<M> Replay<M> {
    /// `left` is the number of messages that the server will send again.
    pub(crate) fn new(left: usize) -> Self {
        Self {
            awaited: Some(left).filter(|left| *left > 0),
            collected: BTreeMap::new(),
            ready: VecDeque::new(),
            highest: 0,
            held: HashSet::new(),
        }
    }

    /// Whether messages are still to come again, so that none may be given out.
    pub(crate) fn is_waiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// Accepts a message that arrived.
    pub(crate) fn arrive(&mut self, place: Place, message: M) -> Arrival {
        if let Some(awaited) = self.awaited {
            let again = place.deliveries > 1;
            // The server sends new messages only after the old ones.
            if !again {
                self.begin();
                return self.keep(place, message);
            }
            self.collected.insert(place.sequence, (place, message));
            if self.collected.len() >= awaited {
                self.begin();
            }
            return Arrival::Kept;
        }
        self.keep(place, message)
    }

    fn keep(&mut self, place: Place, message: M) -> Arrival {
        if place.sequence > self.highest {
            self.highest = place.sequence;
            self.ready.push_back((place, message));
            return Arrival::Kept;
        }
        let waits = self.ready.iter().any(|(ready, _)| ready.sequence == place.sequence);
        if waits || self.held.contains(&place.sequence) { Arrival::Duplicate } else { Arrival::Settled }
    }

    /// Takes note of the number of messages that are unacknowledged now. The previous owner may have acknowledged
    /// some of the awaited ones meanwhile.
    pub(crate) fn left(&mut self, left: usize) {
        if self.awaited.is_some() && self.collected.len() >= left {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.awaited = None;
        for (place, message) in std::mem::take(&mut self.collected).into_values() {
            self.highest = self.highest.max(place.sequence);
            self.ready.push_back((place, message));
        }
    }

    /// Gives out the messages that are ready, as long as no more than `ahead` are given out and not settled.
    pub(crate) fn give_out(&mut self, ahead: usize) -> Vec<(Place, M)> {
        let room = ahead.saturating_sub(self.held.len()).min(self.ready.len());
        let given: Vec<_> = self.ready.drain(..room).collect();
        self.held.extend(given.iter().map(|(place, _)| place.sequence));
        given
    }

    /// The highest number of a message that has come, apart from those that are still collected.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// The number of messages that have come and are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.collected.len() + self.ready.len() + self.held.len()
    }

    /// Settles a message. `false`: it was not given out.
    pub(crate) fn settle(&mut self, sequence: u64) -> bool {
        self.held.remove(&sequence)
    }
}

#[cfg(test)]
mod tests {
    use partitura_broker::Timestamp;

    use super::*;

    fn again(sequence: u64) -> Place {
        Place { sequence, deliveries: 2, stored: Timestamp::default() }
    }

    fn first(sequence: u64) -> Place {
        Place { sequence, deliveries: 1, stored: Timestamp::default() }
    }

    fn given(replay: &mut Replay<()>) -> Vec<u64> {
        replay.give_out(100).into_iter().map(|(place, ())| place.sequence).collect()
    }

    #[test]
    fn messages_of_the_previous_owner_are_sorted_before_any_is_given_out() {
        let mut replay = Replay::new(3);
        for place in [again(7), again(2)] {
            assert_eq!(replay.arrive(place, ()), Arrival::Kept);
            assert!(given(&mut replay).is_empty());
        }
        replay.arrive(again(4), ());
        assert_eq!(given(&mut replay), [2, 4, 7]);
        replay.arrive(first(9), ());
        assert_eq!(given(&mut replay), [9]);
    }

    #[test]
    fn a_new_message_means_that_no_old_one_will_come() {
        let mut replay = Replay::new(3);
        replay.arrive(again(5), ());
        replay.arrive(first(9), ());
        assert_eq!(given(&mut replay), [5, 9]);
    }

    #[test]
    fn a_late_settlement_of_the_previous_owner_is_not_waited_for() {
        let mut replay = Replay::new(2);
        replay.arrive(again(5), ());
        replay.left(2);
        assert!(replay.is_waiting());
        replay.left(1);
        assert_eq!(given(&mut replay), [5]);
    }

    #[test]
    fn during_a_claim_no_message_is_given_out_twice() {
        let mut replay = Replay::new(0);
        replay.arrive(first(1), ());
        replay.arrive(first(2), ());
        assert_eq!(given(&mut replay), [1, 2]);
        assert_eq!(replay.arrive(again(1), ()), Arrival::Duplicate);
        assert!(replay.settle(1) && !replay.settle(1));
        assert_eq!(replay.arrive(again(1), ()), Arrival::Settled);
        assert!(given(&mut replay).is_empty());
    }

    #[test]
    fn no_more_messages_are_given_out_than_allowed() {
        let mut replay = Replay::new(0);
        (1..=5).for_each(|n| assert_eq!(replay.arrive(first(n), ()), Arrival::Kept));
        assert_eq!(replay.give_out(2).len(), 2);
        assert!(replay.give_out(2).is_empty());
        replay.settle(1);
        assert_eq!(replay.give_out(2)[0].0.sequence, 3);
    }
}
