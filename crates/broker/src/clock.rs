use std::fmt;
use std::ops::Add;
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

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// Where the wall-clock time comes from. Tests and simulations bring their own.
///
/// It may jump; whoever waits for a moment looks again after waking up.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now, rounded down to the millisecond: the moment to judge by whether something is due.
    fn now(&self) -> Timestamp;

    /// Now, rounded up to the millisecond: the moment to add a duration to, so that its end is not a fraction of a millisecond early.
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
    fn a_delay_is_never_rounded_down() {
        let start = Timestamp::from_millis(10);
        assert_eq!(start + Duration::from_nanos(1), Timestamp::from_millis(11));
        assert_eq!(start + Duration::from_millis(1), Timestamp::from_millis(11));
        assert_eq!(start + Duration::ZERO, start);
        assert_eq!(start + Duration::MAX, Timestamp::from_millis(u64::MAX));
        assert_eq!(start.since(Timestamp::from_millis(20)), Duration::ZERO);
    }
}
