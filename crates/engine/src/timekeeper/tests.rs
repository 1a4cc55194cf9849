use std::sync::atomic::{AtomicU64, Ordering};

use partitura_broker::Clock;

use super::*;

/// Follows tokio's clock from this many milliseconds on.
#[derive(Debug)]
struct Machine {
    start: Instant,
    at: AtomicU64,
}

impl Machine {
    fn at(millis: u64) -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), at: AtomicU64::new(millis) })
    }
}

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.at.load(Ordering::Relaxed)) + self.start.elapsed()
    }
}

/// Reads another clock over a network. `ways` has, for each reading, the milliseconds there and back.
fn reading<'a>(
    server: &'a Machine,
    ways: &'a [(u64, u64)],
) -> impl Fn() -> futures::future::BoxFuture<'a, Result<Option<Timestamp>>> {
    let next = AtomicU64::new(0);
    move || {
        let number = next.fetch_add(1, Ordering::Relaxed) as usize;
        Box::pin(async move {
            let (there, back) = ways[number % ways.len()];
            tokio::time::sleep(Duration::from_millis(there)).await;
            let now = server.now();
            tokio::time::sleep(Duration::from_millis(back)).await;
            Ok(Some(now))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn the_shortest_round_trip_counts_and_the_error_stays_within_half_of_it() {
    let (server, ours) = (Machine::at(1_000_000), Machine::at(700_000));
    let clock = CorrectedClock::over(ours);
    let ways = [(400, 0), (0, 90), (9, 1), (30, 30), (200, 0)];
    let estimate = estimate(&clock, reading(&server, &ways)).await.expect("read").expect("a clock");
    assert_eq!(estimate.within, Duration::from_millis(6));
    assert!((estimate.millis - 300_000).abs() <= 6, "{estimate:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_is_corrected_both_ways_and_one_that_is_right_is_left_alone() {
    for (off, corrected) in [(-300_000, 300_000), (300_000, -300_000), (-2_000, 2_000), (0, 0), (3, 0), (-4, 0)] {
        let server = Machine::at(1_000_000_000);
        let clock = CorrectedClock::over(Machine::at(1_000_000_000_u64.saturating_add_signed(off)));
        let keeper = Timekeeper::new(clock.clone(), Reference::Own);
        assert!(keeper.compare(reading(&server, &[(4, 4)])).await);
        assert_eq!(clock.offset(), corrected, "{off}");
        assert_eq!(keeper.offset().expect("an estimate").millis, corrected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_correction_stays_until_a_reading_proves_it_wrong() {
    let (server, ours) = (Machine::at(1_000_000), Machine::at(990_000));
    let clock = CorrectedClock::over(ours.clone());
    let keeper = Timekeeper::new(clock.clone(), Reference::Own);
    keeper.compare(reading(&server, &[(1, 1)])).await;
    assert_eq!(clock.offset(), 10_000);
    // Its middle says 40 ms more, and that it may be wrong by 50.
    keeper.compare(reading(&server, &[(90, 10)])).await;
    assert_eq!(clock.offset(), 10_000);
    // The machine is set right meanwhile.
    ours.at.store(1_000_000, Ordering::Relaxed);
    keeper.compare(reading(&server, &[(90, 10)])).await;
    assert!(clock.offset().abs() <= 50, "{}", clock.offset());
    assert_eq!(keeper.offset().expect("an estimate").within, Duration::from_millis(51));
}

#[tokio::test(start_paused = true)]
async fn where_no_clock_can_be_read_ours_counts() {
    let clock = CorrectedClock::over(Machine::at(5));
    let keeper = Timekeeper::new(clock.clone(), Reference::Own);
    assert!(!keeper.compare(|| async { Ok(None) }).await);
    assert!(keeper.compare(|| async { Err(Error::new(ErrorKind::Timeout, "read", "late")) }).await);
    assert_eq!((clock.offset(), keeper.offset()), (0, None));
}
