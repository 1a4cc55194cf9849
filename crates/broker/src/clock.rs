use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment of wall-clock time, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long from `earlier` to here; zero where that is not in the past.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    /// Rounded down to the millisecond. Moments before the epoch become the epoch.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Rounded up to the millisecond, so that a delay is never shorter than asked for. Saturates.
    fn add(self, duration: Duration) -> Self {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    /// Rounded down to the millisecond, at the earliest the epoch.
    fn sub(self, duration: Duration) -> Self {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_sub(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// As RFC 3339 has it, in UTC, to the millisecond: `2026-11-29T13:10:21.042Z`.
    ///
    /// Source of the calendar: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, millis) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Years begin in March, so that the leap day is their last; eras of 400 years are all alike.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_based = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_based + 2) / 5 + 1;
        let month = if march_based < 10 { march_based + 3 } else { march_based - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// Where the wall-clock time comes from. Tests and simulations bring their own.
///
/// It may jump: a task that waits for a moment looks again after waking up.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now, rounded down to the millisecond: the moment to judge by whether something is due.
    fn now(&self) -> Timestamp;

    /// Now, rounded up to the millisecond: the moment to add a duration to, so that its end is not a fraction of a
    /// millisecond early.
    ///
    /// Unless a clock knows better, [`now`](Self::now) may have been cut short by anything less than a millisecond.
    fn now_rounded_up(&self) -> Timestamp {
        self.now() + Duration::from_millis(1)
    }
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn now_rounded_up(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(0) + since
    }
}

/// Another clock, and by how much it differs from the one that all processes of a deployment go by.
///
/// Cloning gives another handle to the same clock: a correction through one of them counts for all.
#[derive(Debug, Clone)]
pub struct CorrectedClock {
    base: Arc<dyn Clock>,
    /// In milliseconds.
    offset: Arc<AtomicI64>,
}

impl CorrectedClock {
    /// A clock that shows the time of `base`, until it is corrected.
    pub fn over(base: Arc<dyn Clock>) -> Self {
        Self { base, offset: Arc::default() }
    }

    /// The time that the clock below shows.
    pub fn uncorrected(&self) -> Timestamp {
        self.base.now()
    }

    /// Adds this many milliseconds to the time of the clock below, from now on. Negative: the clock below is ahead.
    pub fn correct(&self, millis: i64) {
        self.offset.store(millis, Ordering::Relaxed);
    }

    /// Number of milliseconds that are added to the time of the clock below.
    pub fn offset(&self) -> i64 {
        self.offset.load(Ordering::Relaxed)
    }
}

impl Default for CorrectedClock {
    /// The system's clock, not corrected.
    fn default() -> Self {
        Self::over(Arc::new(SystemClock))
    }
}

impl Clock for CorrectedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.base.now().0.saturating_add_signed(self.offset()))
    }

    fn now_rounded_up(&self) -> Timestamp {
        Timestamp(self.base.now_rounded_up().0.saturating_add_signed(self.offset()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_from_now_rounded_up_ends_late_rather_than_early() {
        for _ in 0..1_000 {
            let begun = SystemTime::now();
            let due = SystemClock.now_rounded_up() + Duration::from_millis(5);
            let due = UNIX_EPOCH + Duration::from_millis(due.as_millis());
            assert!(due >= begun + Duration::from_millis(5));
        }
    }

    #[test]
    fn a_correction_counts_for_every_handle() {
        #[derive(Debug)]
        struct Noon;
        impl Clock for Noon {
            fn now(&self) -> Timestamp {
                Timestamp::from_millis(43_200_000)
            }
        }
        let clock = CorrectedClock::over(Arc::new(Noon));
        let other = clock.clone();
        clock.correct(-200_000);
        assert_eq!((other.now(), other.offset()), (Timestamp::from_millis(43_000_000), -200_000));
        assert_eq!(other.uncorrected(), Timestamp::from_millis(43_200_000));
        other.correct(5);
        assert_eq!(clock.now(), Timestamp::from_millis(43_200_005));
    }

    #[test]
    fn moments_are_written_to_the_millisecond() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        }
    }

    #[test]
    fn a_delay_is_never_rounded_down() {
        let start = Timestamp::from_millis(10);
        assert_eq!(start + Duration::from_nanos(1), Timestamp::from_millis(11));
        assert_eq!(start + Duration::from_millis(1), Timestamp::from_millis(11));
        assert_eq!(start + Duration::ZERO, start);
        assert_eq!(start + Duration::MAX, Timestamp::from_millis(u64::MAX));
        assert_eq!(start.since(Timestamp::from_millis(20)), Duration::ZERO);
    }
}
