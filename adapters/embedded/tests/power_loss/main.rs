//! The power fails: synced data is on the disk, and of the data that was being written any part may be.
//!
//! A script of publishing, committing, settling, declaring and checkpointing is carried out once, and the files are
//! copied whenever everything so far is confirmed. A confirm comes after a sync, so that a copy is the certain content
//! of a disk. The difference to the next copy was under way. A case takes a copy, damages that difference as disks do,
//! opens the result, and compares its content with the promised one.
//!
//! These tests cannot see that a confirm does come after a sync; `storage` has a test of the setting for it.
//!
//! | environment | |
//! |---|---|
//! | `POWER_LOSS_SEED=n` | the script, and the damage, of that seed |
//! | `POWER_LOSS_SCRIPTS=n` | the number of scripts, of that seed and those that follow |

// Helpers may panic as tests may.
#![allow(clippy::unwrap_used)]

mod chance;
mod disk;
mod expected;
mod first_opening;
mod found;
mod script;

use chance::Chance;
use disk::Kind;
use expected::Expected;
use script::Moment;

/// The number of power failures for each moment of a script.
const FAILURES: u32 = 4;
/// The number for moments at which the log is moved into the file, of which there are few.
const FAILURES_OF_CHECKPOINTS: u32 = 16;
/// The number of scripts, unless the environment sets it.
const SCRIPTS: u64 = 4;

#[tokio::test]
async fn confirmed_writes_survive_and_others_are_there_whole_or_not_at_all() {
    let failures = for_each_case(|kind| kind == Kind::Write).await;
    assert!(failures >= 48, "{failures} cases a script");
}

#[tokio::test]
async fn a_checkpoint_that_was_cut_short_changes_nothing() {
    let failures = for_each_case(|kind| kind != Kind::Write).await;
    assert!(failures >= 16, "{failures} cases a script");
}

/// Without a sync the disk could have the content of one confirm earlier.
#[tokio::test]
async fn a_confirm_that_was_not_kept_would_be_noticed() {
    let moments = script::record(chance::seed()).await;
    let mut tried = 0;
    for moment in moments.iter().filter(|moment| moment.kind == Kind::Write && moment.states.len() > 1) {
        let (first, last) = (&moment.states[0], &moment.states[moment.states.len() - 1]);
        let directory = disk::scratch();
        moment.before.write(directory.path());
        let found = found::read(directory.path()).await.unwrap();
        assert!(found.is(first), "{}", found.difference(first));
        assert!(first == last || !found.is(last), "{moment:?}");
        tried += u32::from(first != last);
    }
    assert!(tried > 0);
}

/// Tests all moments of this kind of all scripts. Returns the number of cases of the average script.
async fn for_each_case(wanted: impl Fn(Kind) -> bool) -> u64 {
    let first = chance::seed();
    let scripts = std::env::var("POWER_LOSS_SCRIPTS").map_or(SCRIPTS, |text| text.parse().unwrap());
    let mut failures = 0;
    for seed in first..first + scripts {
        let moments = script::record(seed).await;
        for (index, moment) in moments.iter().enumerate().filter(|(_, moment)| wanted(moment.kind)) {
            let often = if moment.kind == Kind::Write { FAILURES } else { FAILURES_OF_CHECKPOINTS };
            for failure in 0..often {
                let name = format!("POWER_LOSS_SEED={seed} POWER_LOSS_SCRIPTS=1, moment {index}, failure {failure}");
                let mut chance = Chance::new(seed).fork(index as u64).fork(failure.into());
                fail(moment, &name, &mut chance).await;
                failures += 1;
            }
        }
    }
    println!("{failures} power failures in {scripts} scripts");
    failures / scripts
}

/// One power failure, and the state after it.
async fn fail(moment: &Moment, name: &str, chance: &mut Chance) {
    let damaged = disk::after_power_loss(&moment.before, &moment.after, moment.kind, chance);
    let directory = disk::scratch();
    damaged.image.write(directory.path());
    let context = format!("{name}: {:?}, {}", moment.kind, damaged.what);
    let found = match found::read(directory.path()).await {
        Ok(found) => found,
        Err(error) => panic!("{context}: {error}; the files are in {}", keep(directory)),
    };
    let last = moment.states.len() - 1;
    let promised: &[Expected] = match (damaged.has_all, damaged.has_none) {
        (true, _) => &moment.states[last..],
        (false, true) => &moment.states[..1],
        (false, false) => &moment.states,
    };
    let Some(state) = promised.iter().find(|state| found.is(state)) else {
        let differences: Vec<String> = promised.iter().map(|state| found.difference(state)).collect();
        panic!("{context}: found what was never promised: {differences:#?}; the files are in {}", keep(directory));
    };
    if chance.one_in(4) {
        let state = found::go_on(directory.path(), state).await;
        let found = found::read(directory.path()).await.unwrap();
        assert!(found.is(&state), "{context}: later, {}", found.difference(&state));
    }
}

fn keep(directory: tempfile::TempDir) -> String {
    directory.keep().display().to_string()
}
