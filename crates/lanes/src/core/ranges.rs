/// A set of places, kept as ranges: a parked key has long runs of them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.0.first().map(|(from, _)| *from)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.0.last().map(|(_, to)| *to)
    }

    pub(super) fn contains(&self, place: u64) -> bool {
        let at = self.0.partition_point(|(_, to)| *to < place);
        self.0.get(at).is_some_and(|(from, _)| *from <= place)
    }

    pub(super) fn insert(&mut self, place: u64) {
        let at = self.0.partition_point(|(_, to)| *to < place);
        if self.0.get(at).is_some_and(|(from, _)| *from <= place) {
            return;
        }
        let joins_left = at > 0 && self.0[at - 1].1.checked_add(1) == Some(place);
        let joins_right = self.0.get(at).is_some_and(|(from, _)| place.checked_add(1) == Some(*from));
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = place,
            (false, true) => self.0[at].0 = place,
            (false, false) => self.0.insert(at, (place, place)),
        }
    }

    pub(super) fn remove(&mut self, place: u64) {
        let at = self.0.partition_point(|(_, to)| *to < place);
        let Some((from, to)) = self.0.get(at).copied().filter(|(from, _)| *from <= place) else { return };
        match (from == place, to == place) {
            (true, true) => drop(self.0.remove(at)),
            (true, false) => self.0[at].0 = place + 1,
            (false, true) => self.0[at].1 = place - 1,
            (false, false) => {
                self.0[at].1 = place - 1;
                self.0.insert(at + 1, (place + 1, to));
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..24), 0..200)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (add, place) in steps {
                if add { ranges.insert(place); set.insert(place); } else { ranges.remove(place); set.remove(&place); }
                prop_assert_eq!(ranges.first(), set.first().copied());
                prop_assert_eq!(ranges.last(), set.last().copied());
                prop_assert!((0..24).all(|place| ranges.contains(place) == set.contains(&place)));
                prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "joined where they touch");
            }
        }
    }
}
