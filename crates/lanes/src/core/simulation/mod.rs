//! The core against a small model of a broker, over arbitrary interleavings.

mod kind;
mod log;
mod steps;
mod world;

use proptest::prelude::*;

use self::kind::{CRASHES, Kind};
use self::steps::{KEYS, Step, steps, with_killers};
use self::world::World;

fn kinds() -> impl Strategy<Value = Kind> {
    (any::<bool>(), 1..4usize, 14..24usize, any::<bool>()).prop_map(|(parking, batch, credit, flags_old)| Kind {
        parking,
        batch,
        credit,
        flags_old,
    })
}

/// The keys of the messages that end their process.
fn killers() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0..KEYS, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No loss, no order violation, no overlap, nothing settled before it is done, and it always comes to an end: with
    /// failing publishes, lost partitions, hand-overs and crashes in any order.
    #[test]
    fn order_and_messages_survive_every_interleaving(steps in steps(), kind in kinds()) {
        let mut world = World::new(kind);
        for step in steps {
            world.run(step);
        }
        world.finish();
    }

    /// Without faults, parking and retry included, every message is done exactly once.
    #[test]
    fn without_faults_everything_is_done_exactly_once(steps in steps(), kind in kinds()) {
        let mut world = World::new(kind);
        for step in steps.into_iter().filter(|step| !step.is_fault()) {
            world.run(step);
        }
        world.finish();
        prop_assert!(world.runs().values().all(|runs| *runs == 1), "{:?}", world.runs());
        prop_assert!(world.killers().1.is_empty(), "nothing is given up");
        prop_assert!(world.has_no_lane(), "nothing is left behind");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    /// However many processes die besides, no others are given up, and order is kept; but one that counted as begun
    /// each time: it was on trial when another reason ended the process, or its copy waited for the trial of another.
    /// Publishing succeeds: a publish that failed without an answer may leave a copy with the note that it begins.
    #[test]
    fn only_messages_that_end_their_process_are_given_up(steps in steps(), kind in kinds(), killers in killers()) {
        let mut world = World::new(Kind { parking: true, ..kind });
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Park { succeeds: false, .. })).collect();
        for step in with_killers(steps, &killers) {
            world.run(step);
        }
        world.finish();
        let (killers, given_up) = world.killers();
        prop_assert!(killers.is_subset(given_up), "{:?} are not given up", killers - given_up);
        for innocent in given_up - killers {
            let losses = world.lost(innocent);
            prop_assert!(losses >= CRASHES - 1, "{:?} is given up after {} losses", innocent, losses);
        }
    }

    /// The broker may flag the first delivery by mistake.
    #[test]
    fn without_other_faults_a_message_that_ends_its_process_runs_as_often_as_was_set_or_once_less(
        steps in steps(), kind in kinds(), killer in 0..KEYS,
    ) {
        let mut world = World::new(Kind { parking: true, ..kind });
        let steps = steps.into_iter().filter(|step| !step.is_fault()).collect();
        for step in with_killers(steps, &[killer]) {
            world.run(step);
        }
        world.finish();
        let (killers, given_up) = world.killers();
        prop_assert_eq!(given_up, killers);
        for killer in killers {
            let runs = world.begun(*killer);
            prop_assert!((CRASHES - 1..=CRASHES).contains(&runs), "{:?} was run {} times", killer, runs);
        }
    }
}
