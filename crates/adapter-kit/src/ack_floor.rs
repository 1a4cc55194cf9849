use std::collections::VecDeque;

/// The settled part of a log whose deliveries are settled in any order, while the log commits only one position for all
/// before it.
///
/// Deliveries are pushed in the order of the log, with positions that grow and may leave gaps. The ack floor is the
/// last position up to which all pushed deliveries are settled. It may be committed without losing anything. Pushing
/// and settling take amortised constant time; memory is one entry per delivery above the ack floor.
#[derive(Debug, Clone, Default)]
pub struct AckFloor {
    /// The index of the first entry.
    first: u64,
    entries: VecDeque<(u64, bool)>,
    position: Option<u64>,
    /// The number of settled entries.
    above: usize,
}

/// Names a delivery within its [`AckFloor`], for settling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Index(u64);

impl AckFloor {
    /// Makes one without deliveries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a delivery. Positions must grow: a caller must begin a new one when it reads a log again. A position
    /// that is not above all earlier ones is counted as if it were.
    pub fn push(&mut self, position: u64) -> Index {
        debug_assert!(self.entries.back().is_none_or(|(last, _)| *last < position), "positions grow");
        self.entries.push_back((position, false));
        Index(self.first + self.entries.len() as u64 - 1)
    }

    /// Settles a delivery. `false` if it was settled before.
    pub fn settle(&mut self, index: Index) -> bool {
        let Some(at) = index.0.checked_sub(self.first).and_then(|at| usize::try_from(at).ok()) else { return false };
        match self.entries.get_mut(at) {
            Some((_, settled @ false)) => *settled = true,
            _ => return false,
        }
        self.above += 1;
        while let Some((position, true)) = self.entries.front() {
            self.position = Some(*position);
            self.entries.pop_front();
            self.first += 1;
            self.above -= 1;
        }
        true
    }

    /// The last position up to which everything is settled; `None` before there is one.
    pub fn position(&self) -> Option<u64> {
        self.position
    }

    /// The positions settled above the ack floor, ascending. If they are stored beside it, they are not handled again.
    pub fn settled_above(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().filter(|(_, settled)| *settled).map(|(position, _)| *position)
    }

    /// The number of unsettled deliveries.
    pub fn unsettled(&self) -> usize {
        self.entries.len() - self.above
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_settlement_out_of_order_waits_for_those_below() {
        let mut floor = AckFloor::new();
        let [one, two, three] = [10, 11, 15].map(|position| floor.push(position));
        assert!(floor.settle(three));
        assert!(floor.settle(one));
        assert_eq!((floor.position(), floor.unsettled()), (Some(10), 1));
        assert_eq!(floor.settled_above().collect::<Vec<_>>(), [15]);
        assert!(floor.settle(two));
        assert!(!floor.settle(two), "settled twice");
        assert_eq!((floor.position(), floor.unsettled()), (Some(15), 0));
    }

    proptest! {
        #[test]
        fn the_floor_never_passes_an_unsettled_one_and_never_lags(
            gaps in prop::collection::vec(1_u64..5, 1..80),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
        ) {
            let mut floor = AckFloor::new();
            let mut position = 0;
            let push = |gap: &u64| { position += gap; (position, floor.push(position)) };
            let pushed: Vec<(u64, Index)> = gaps.iter().map(push).collect();
            let mut unsettled: BTreeSet<u64> = pushed.iter().map(|(position, _)| *position).collect();
            for which in order {
                let (position, index) = pushed[which.index(pushed.len())];
                prop_assert_eq!(floor.settle(index), unsettled.remove(&position));
                let lowest = unsettled.first().copied().unwrap_or(u64::MAX);
                let expected = pushed.iter().map(|(position, _)| *position).filter(|position| *position < lowest).max();
                prop_assert_eq!(floor.position(), expected);
                prop_assert_eq!(floor.unsettled(), unsettled.len());
                let is_above = |position: &u64| *position > lowest && !unsettled.contains(position);
                let above: Vec<u64> = pushed.iter().map(|(position, _)| *position).filter(is_above).collect();
                prop_assert_eq!(floor.settled_above().collect::<Vec<_>>(), above);
            }
        }
    }
}
