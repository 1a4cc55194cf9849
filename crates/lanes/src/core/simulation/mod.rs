//! The core against a small model of a broker, over arbitrary interleavings.

mod steps;
mod world;

use proptest::prelude::*;

use self::steps::steps;
use self::world::World;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No loss, no order violation, no overlap, nothing settled before it is done, and it always comes to an end:
    /// with failing publishes, lost partitions, hand-overs and crashes in any order.
    #[test]
    fn order_and_messages_survive_every_interleaving(
        steps in steps(), parking in any::<bool>(), batch in 1..4usize, credit in 14..24usize,
    ) {
        let mut world = World::new(parking, batch, credit);
        for step in steps {
            world.run(step, batch, parking);
        }
        world.finish();
    }

    /// Without faults, parking and retry included, every message is done exactly once.
    #[test]
    fn without_faults_everything_is_done_exactly_once(
        steps in steps(), parking in any::<bool>(), batch in 1..4usize, credit in 14..24usize,
    ) {
        let mut world = World::new(parking, batch, credit);
        for step in steps.into_iter().filter(|step| !step.is_fault()) {
            world.run(step, batch, parking);
        }
        world.finish();
        prop_assert!(world.runs().values().all(|runs| *runs == 1), "{:?}", world.runs());
        prop_assert!(world.has_no_lane(), "nothing is left behind");
    }
}
