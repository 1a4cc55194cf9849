use partitura_simulation::{Options, simulate};

#[test]
fn a_seed_decides_about_everything_that_happens() {
    for seed in 0..60 {
        let (first, second) = (simulate(seed, Options::default()), simulate(seed, Options::default()));
        assert_eq!(first.hash, second.hash, "seed {seed}: something does not depend on the seed");
        assert_eq!((first.happenings, first.lasted), (second.happenings, second.lasted), "seed {seed}");
    }
}

#[test]
fn a_kept_trace_changes_nothing() {
    let (kept, told) = (simulate(7, Options::default()), simulate(7, Options::default().trace()));
    assert_eq!(kept.hash, told.hash);
    assert!(kept.trace.is_empty());
    assert_eq!(told.trace.len() as u64, told.happenings);
}

#[test]
fn neighbouring_seeds_have_different_worlds() {
    let mut hashes: Vec<u64> = (0..50).map(|seed| simulate(seed, Options::default()).hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 50);
}

#[test]
fn worlds_come_to_rest_with_nothing_lost_doubled_or_stuck() {
    for seed in 5_000..5_200 {
        let report = simulate(seed, Options::default());
        assert_eq!(report.violation, None, "seed {seed}: cargo xtask simulate --seeds 1 --from {seed} --trace");
    }
}
