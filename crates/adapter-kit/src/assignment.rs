use std::cmp::Reverse;
use std::collections::HashMap;

/// A consumer, by any number that is unique among its competitors.
pub type MemberId = u64;

/// Returns the wanted owner of each partition, from the members alone: all callers that know the same members get the
/// same owners.
///
/// For brokers where the members cannot ask each other. Each pair of partition and member has a score, a hash. The
/// highest scores win, as long as no member gets more than its share, so that loads differ by at most one. A change of
/// the membership moves little more than necessary, because scores do not change. The order and repetition of `members`
/// do not matter. Without members no partition has an owner.
///
/// Source: highest random weight hashing (Thaler, Ravishankar, 1996), made balanced by a greedy choice over all pairs.
pub fn rendezvous(partitions: u32, members: &[MemberId]) -> Vec<Option<MemberId>> {
    let members = unique(members);
    let mut owners = vec![None; partitions as usize];
    let mut quota = Quota::new(partitions, members.len());
    let mut loads: HashMap<MemberId, u32> = HashMap::new();
    let mut pairs: Vec<(u64, u32, MemberId)> =
        (0..partitions).flat_map(|p| members.iter().map(move |m| (score(p, *m), p, *m))).collect();
    pairs.sort_unstable_by_key(|pair| Reverse(*pair));
    for (_, partition, member) in pairs {
        let owner = &mut owners[partition as usize];
        let load = loads.entry(member).or_default();
        if owner.is_none() && quota.admits(*load) {
            *owner = Some(member);
            *load += 1;
        }
    }
    owners
}

/// Returns the wanted owner of each partition, from the present owners: the balance is restored with as few moves as
/// possible.
///
/// For callers that see the whole membership. Loads differ by at most one afterwards. Only partitions without a living
/// owner, and those above an owner's share, move. The scores of [`rendezvous`] decide the moves, so that they are the
/// same at every call. The order and repetition of `members` do not matter.
pub fn rebalance(current: &[Option<MemberId>], members: &[MemberId]) -> Vec<Option<MemberId>> {
    let mut members = unique(members);
    let mut held: HashMap<MemberId, Vec<u32>> = members.iter().map(|member| (*member, Vec::new())).collect();
    for (partition, owner) in (0_u32..).zip(current) {
        if let Some(partitions) = owner.and_then(|owner| held.get_mut(&owner)) {
            partitions.push(partition);
        }
    }
    // The members that hold most keep the larger shares, which makes the moves fewest.
    members.sort_by_key(|member| (Reverse(held[member].len()), *member));
    let mut quota = Quota::new(current.len() as u32, members.len());
    let mut owners = vec![None; current.len()];
    let mut room: Vec<MemberId> = Vec::new();
    for member in members {
        let mut partitions = held.remove(&member).unwrap_or_default();
        partitions.sort_by_key(|partition| Reverse((score(*partition, member), *partition)));
        let mut load = 0;
        while quota.admits(load) {
            if let Some(partition) = partitions.get(load as usize) {
                owners[*partition as usize] = Some(member);
            } else {
                room.push(member);
            }
            load += 1;
        }
    }
    for (partition, owner) in (0_u32..).zip(&mut owners).filter(|(_, owner)| owner.is_none()) {
        let best = room.iter().enumerate().max_by_key(|(_, member)| (score(partition, **member), **member));
        if let Some((at, _)) = best {
            *owner = Some(room.swap_remove(at));
        }
    }
    owners
}

/// The number of partitions for each member: the same for all, and one more for some.
struct Quota {
    share: u32,
    extra: u32,
}

impl Quota {
    fn new(partitions: u32, members: usize) -> Self {
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        Self {
            share: partitions.checked_div(members).unwrap_or(0),
            extra: partitions.checked_rem(members).unwrap_or(0),
        }
    }

    /// Whether a member with `load` partitions may have one more. If so, that one is counted.
    fn admits(&mut self, load: u32) -> bool {
        if load == self.share && self.extra > 0 {
            self.extra -= 1;
            return true;
        }
        load < self.share
    }
}

fn unique(members: &[MemberId]) -> Vec<MemberId> {
    let mut members = members.to_vec();
    members.sort_unstable();
    members.dedup();
    members
}

/// The finish of SplitMix64 over both numbers: fixed for ever, since different processes have to agree on it.
fn score(partition: u32, member: MemberId) -> u64 {
    let mut x = member ^ u64::from(partition).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Owners = Vec<Option<MemberId>>;

    fn loads(owners: &Owners, members: &[MemberId]) -> Vec<usize> {
        unique(members).iter().map(|member| owners.iter().filter(|owner| **owner == Some(*member)).count()).collect()
    }

    fn moved(before: &Owners, after: &Owners) -> usize {
        before.iter().zip(after).filter(|(before, after)| before != after).count()
    }

    fn is_balanced(owners: &Owners, members: &[MemberId]) -> bool {
        let loads = loads(owners, members);
        let spread = loads.iter().max().unwrap_or(&0) - loads.iter().min().unwrap_or(&0);
        spread <= 1 && (members.is_empty() || owners.iter().all(Option::is_some))
    }

    #[test]
    fn without_members_nobody_owns_anything() {
        assert_eq!(rendezvous(2, &[]), [None, None]);
        assert_eq!(rebalance(&[Some(1), None], &[]), [None, None]);
    }

    #[test]
    fn the_assignment_of_a_given_membership_is_fixed_for_ever() {
        // Processes of different versions compute it side by side: these numbers must not change.
        let owners: Vec<_> = rendezvous(8, &[1, 2, 3]).into_iter().flatten().collect();
        assert_eq!(owners, [1, 3, 3, 2, 1, 2, 1, 3]);
    }

    proptest! {
        #[test]
        fn rendezvous_is_balanced_and_independent_of_order(
            partitions in 0_u32..130, mut members in prop::collection::vec(any::<MemberId>(), 0..12),
        ) {
            let owners = rendezvous(partitions, &members);
            prop_assert!(is_balanced(&owners, &members), "{:?}", loads(&owners, &members));
            members.reverse();
            members.extend_from_within(..members.len() / 2);
            prop_assert_eq!(owners, rendezvous(partitions, &members));
        }

        #[test]
        fn rebalancing_moves_no_more_than_balance_needs(
            partitions in 0_usize..130,
            members in prop::collection::btree_set(0_u64..40, 1..10),
            join in prop::collection::btree_set(40_u64..50, 0..4),
            leave in 0_usize..6,
        ) {
            let members: Vec<_> = members.into_iter().collect();
            let before = rebalance(&vec![None; partitions], &members);
            prop_assert!(is_balanced(&before, &members));
            prop_assert_eq!(&rebalance(&before, &members), &before, "balanced already: nothing moves");

            let after_members: Vec<_> = members.iter().skip(leave).copied().chain(join).collect();
            let after = rebalance(&before, &after_members);
            prop_assert!(is_balanced(&after, &after_members));
            if !after_members.is_empty() {
                // No assignment moves fewer: the present loads, cut to the larger shares, are the partitions that may
                // stay.
                let mut kept: Vec<_> = loads(&before, &after_members);
                kept.sort_by_key(|load| Reverse(*load));
                let (share, extra) = (partitions / after_members.len(), partitions % after_members.len());
                let stay: usize = kept.iter().enumerate().map(|(i, load)| (*load).min(share + usize::from(i < extra))).sum();
                prop_assert_eq!(moved(&before, &after), partitions - stay);
            }
        }

        #[test]
        fn rendezvous_moves_little_more_than_balance_needs(
            members in prop::collection::btree_set(any::<MemberId>(), 2..10), newcomer: MemberId,
        ) {
            let partitions = 120;
            let mut members: Vec<_> = members.into_iter().collect();
            let before = rendezvous(partitions, &members);
            members.push(newcomer);
            let after = rendezvous(partitions, &members);
            let needed = partitions as usize / unique(&members).len();
            prop_assert!(moved(&before, &after) <= 2 * needed + members.len(), "{} of {needed}", moved(&before, &after));
        }
    }
}
