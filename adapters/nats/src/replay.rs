//! The order in which a new owner gets what the one before it left behind.
//!
//! The server sends that first, and once more: what was delivered and not acknowledged. It sends it in order too, unless
//! that owner had lost the partition in the middle of its own replay. So all of it is collected and sorted before anything is
//! given out. Afterwards messages come as they lie in the stream.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::acks::Place;

/// What arrives for the owner of a partition, and what it may give out when.
#[derive(Debug)]
pub(crate) struct Replay<M> {
    /// How many unacknowledged messages are still to come again; `None` when all have.
    awaited: Option<usize>,
    collected: BTreeMap<u64, (Place, M)>,
    ready: VecDeque<(Place, M)>,
    /// The highest number that became ready. In one term, what comes at or below it has come before.
    highest: u64,
    /// Given out, and not settled.
    held: HashSet<u64>,
}

/// What to do with what arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is kept, and given out in its turn.
    Kept,
    /// It is here already.
    Known,
    /// It was settled, and the server has not heard of it.
    Settled,
}

impl<M> Replay<M> {
    /// `left` is how many the server will send again.
    pub(crate) fn new(left: usize) -> Self {
        Self {
            awaited: Some(left).filter(|left| *left > 0),
            collected: BTreeMap::new(),
            ready: VecDeque::new(),
            highest: 0,
            held: HashSet::new(),
        }
    }

    /// Whether something is still to come again, and nothing may be given out.
    pub(crate) fn is_waiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// Takes up what arrived.
    pub(crate) fn arrive(&mut self, place: Place, message: M) -> Arrival {
        if let Some(awaited) = self.awaited {
            let again = place.deliveries > 1;
            // Whatever was sent before is sent again before anything new is.
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
        if waits || self.held.contains(&place.sequence) { Arrival::Known } else { Arrival::Settled }
    }

    /// So many are unacknowledged by now: some that were awaited may have been acknowledged meanwhile, by the owner before.
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

    /// Gives out what is ready, as long as no more than `ahead` are out.
    pub(crate) fn give_out(&mut self, ahead: usize) -> Vec<(Place, M)> {
        let room = ahead.saturating_sub(self.held.len()).min(self.ready.len());
        let given: Vec<_> = self.ready.drain(..room).collect();
        self.held.extend(given.iter().map(|(place, _)| place.sequence));
        given
    }

    /// What is settled is no longer held. `false` where it was not.
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
    fn what_was_left_is_sorted_before_anything_is_given_out() {
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
    fn something_new_says_that_nothing_old_will_come() {
        let mut replay = Replay::new(3);
        replay.arrive(again(5), ());
        replay.arrive(first(9), ());
        assert_eq!(given(&mut replay), [5, 9]);
    }

    #[test]
    fn what_the_owner_before_settled_late_is_not_waited_for() {
        let mut replay = Replay::new(2);
        replay.arrive(again(5), ());
        replay.left(2);
        assert!(replay.is_waiting());
        replay.left(1);
        assert_eq!(given(&mut replay), [5]);
    }

    #[test]
    fn in_a_term_nothing_comes_twice() {
        let mut replay = Replay::new(0);
        replay.arrive(first(1), ());
        replay.arrive(first(2), ());
        assert_eq!(given(&mut replay), [1, 2]);
        assert_eq!(replay.arrive(again(1), ()), Arrival::Known);
        assert!(replay.settle(1) && !replay.settle(1));
        assert_eq!(replay.arrive(again(1), ()), Arrival::Settled);
        assert!(given(&mut replay).is_empty());
    }

    #[test]
    fn no_more_are_out_than_may_be() {
        let mut replay = Replay::new(0);
        (1..=5).for_each(|n| assert_eq!(replay.arrive(first(n), ()), Arrival::Kept));
        assert_eq!(replay.give_out(2).len(), 2);
        assert!(replay.give_out(2).is_empty());
        replay.settle(1);
        assert_eq!(replay.give_out(2)[0].0.sequence, 3);
    }
}
