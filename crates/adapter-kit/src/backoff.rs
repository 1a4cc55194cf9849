use std::time::Duration;

/// The wait before trying again: exponentially longer, with jitter.
///
/// "Full jitter" over the upper half: a wait lies between half of `first · 2ⁿ` and all of it, never above `longest`.
/// The random number comes from the caller, so that a simulation stays reproducible.
///
/// Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("equal jitter").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure.
    pub first: Duration,
    /// The longest wait of all.
    pub longest: Duration,
}

impl Backoff {
    /// Returns the wait after failure number `attempt`, counted from 1.
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(63);
        let nanos = self.first.as_nanos().saturating_mul(1 << doublings).min(self.longest.as_nanos());
        let half = nanos / 2;
        // `random / 2⁶⁴` of the upper half. The product fits, since half a `Duration` is below 2⁹³, and a shift keeps
        // it so.
        let jitter = (half >> 32).saturating_mul(u128::from(random >> 32))
            + (((half & 0xffff_ffff) * u128::from(random >> 32)) >> 32);
        let nanos = (half + jitter).min(nanos);
        Duration::new(
            u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX),
            u32::try_from(nanos % 1_000_000_000).unwrap_or_default(),
        )
    }
}

impl Default for Backoff {
    /// From 100 ms to 30 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(30) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };
        let longest = [1, 2, 3, 4, 5, 1_000].map(|attempt| backoff.delay(attempt, u64::MAX).as_secs_f64().round());
        assert_eq!(longest, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(backoff.delay(1, 0), Duration::from_millis(500));
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_half_and_all_of_its_bound(
            first in 1_u64..1_000_000, longest in 1_u64..100_000_000, attempt in 1_u32..200, random: u64,
        ) {
            let backoff = Backoff { first: Duration::from_micros(first), longest: Duration::from_micros(longest) };
            let bound = backoff.first.saturating_mul(1 << (attempt - 1).min(30)).min(backoff.longest);
            let delay = backoff.delay(attempt, random);
            prop_assert!(delay >= bound / 2 && delay <= bound, "{delay:?} of {bound:?}");
        }
    }
}
