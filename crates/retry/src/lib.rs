//! When to try again, and when to give up: one policy for tasks and for messages.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When to try again, and when to give up. Plain data: it is written into the history with a task.
///
/// The wait before attempt *n + 1* is `initial × coefficient^(n - 1)`, at most `max_interval`, and then shortened by a
/// random share of up to `jitter`, so that many attempts that fail together are not tried again together.
///
/// ```
/// use std::time::Duration;
/// use partitura_retry::Retry;
///
/// let retry = Retry::exponential().max_attempts(3).jitter(0.0);
/// assert_eq!(retry.delay(1, 0.5), Some(Duration::from_secs(1)));
/// assert_eq!(retry.delay(2, 0.5), Some(Duration::from_secs(2)));
/// assert_eq!(retry.delay(3, 0.5), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Retry {
    initial: Duration,
    coefficient: f64,
    max_interval: Option<Duration>,
    max_attempts: Option<u32>,
    jitter: f64,
}

impl Retry {
    /// 1 s, 2 s, 4 s, … at most 60 s apart, shortened by up to a fifth, without a limit on attempts.
    pub fn exponential() -> Self {
        Self {
            initial: Duration::from_secs(1),
            coefficient: 2.0,
            max_interval: Some(Duration::from_secs(60)),
            max_attempts: None,
            jitter: 0.2,
        }
    }

    /// The same interval between attempts, without jitter and without a limit on attempts.
    pub fn fixed(interval: Duration) -> Self {
        Self { initial: interval, coefficient: 1.0, max_interval: None, max_attempts: None, jitter: 0.0 }
    }

    /// One attempt only.
    pub fn none() -> Self {
        Self::fixed(Duration::ZERO).max_attempts(1)
    }

    /// The wait before the second attempt. Zero: every attempt follows at once.
    #[must_use]
    pub fn initial(mut self, interval: Duration) -> Self {
        self.initial = interval;
        self
    }

    /// The factor by which each wait is longer than the one before. A value below 1 or `NaN` counts as 1, infinity as
    /// the largest number.
    #[must_use]
    pub fn coefficient(mut self, coefficient: f64) -> Self {
        // `max` ignores `NaN`. The stored value can be written into a history.
        self.coefficient = 1.0_f64.max(coefficient).min(f64::MAX);
        self
    }

    /// The longest wait.
    #[must_use]
    pub fn max_interval(mut self, interval: Duration) -> Self {
        self.max_interval = Some(interval);
        self
    }

    /// The number of attempts in all, the first one included; 0 counts as 1.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts.max(1));
        self
    }

    /// The largest share by which a wait may be shortened at random, from 0 (none) to 1. A value outside of this range
    /// counts as the nearer end, `NaN` as 0.
    #[must_use]
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.jitter = 0.0_f64.max(fraction).min(1.0);
        self
    }

    /// Returns the wait after the failure of `attempt` (the first is 1), or `None` to give up.
    ///
    /// `random` is a number from 0 up to 1 that the caller draws.
    pub fn delay(&self, attempt: u32, random: f64) -> Option<Duration> {
        if self.max_attempts.is_some_and(|most| attempt >= most) {
            return None;
        }
        let longest = self.max_interval.unwrap_or(LONGEST).min(LONGEST).as_secs_f64();
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        if self.initial.is_zero() {
            return Some(Duration::ZERO);
        }
        let wait = self.initial.as_secs_f64() * finite_or(self.coefficient, 1.0).max(1.0).powi(exponent);
        let kept = 1.0 - finite_or(self.jitter, 0.0).clamp(0.0, 1.0) * finite_or(random, 0.0).clamp(0.0, 1.0);
        Some(Duration::from_secs_f64(finite_or(wait, longest).min(longest) * kept))
    }
}

impl Default for Retry {
    /// [`Retry::exponential`] with at most 10 attempts.
    fn default() -> Self {
        Self::exponential().max_attempts(10)
    }
}

/// No wait is longer than this: a day less than ten years, the horizon of a delay, since a broker's clock may be
/// behind.
const LONGEST: Duration = Duration::from_secs((10 * 365 - 1) * 86_400);

fn finite_or(number: f64, otherwise: f64) -> f64 {
    if number.is_finite() { number } else { otherwise }
}

/// The form in which a policy is stored: waits in whole milliseconds.
#[derive(Serialize, Deserialize)]
struct Stored {
    initial_ms: u64,
    coefficient: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_interval_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(default)]
    jitter: f64,
}

impl From<Retry> for Stored {
    fn from(Retry { initial, coefficient, max_interval, max_attempts, jitter }: Retry) -> Self {
        Self {
            initial_ms: whole_millis(initial),
            coefficient,
            max_interval_ms: max_interval.map(whole_millis),
            max_attempts,
            jitter,
        }
    }
}

impl From<Stored> for Retry {
    fn from(Stored { initial_ms, coefficient, max_interval_ms, max_attempts, jitter }: Stored) -> Self {
        let (initial, max_interval) = (Duration::from_millis(initial_ms), max_interval_ms.map(Duration::from_millis));
        Self { initial, coefficient, max_interval, max_attempts, jitter }
    }
}

/// Rounded up: no wait becomes shorter by being stored.
fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest_and_jitter_shortens_them() {
        let retry = Retry::exponential().initial(Duration::from_millis(100)).max_interval(Duration::from_secs(1));
        let millis = |attempt, random| retry.delay(attempt, random).expect("no end is set").as_millis();
        assert_eq!([1, 2, 3, 4, 5, u32::MAX].map(|n| millis(n, 0.0)), [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(millis(1, 1.0), 80);
    }

    #[test]
    fn attempts_count_from_one_and_the_first_is_one_of_them() {
        let ends = |retry: Retry| [1, 2, 3].map(|attempt| retry.delay(attempt, 0.0).is_none());
        assert_eq!(ends(Retry::fixed(Duration::ZERO).max_attempts(3)), [false, false, true]);
        assert_eq!(ends(Retry::none()), [true; 3]);
        assert!(Retry::exponential().delay(u32::MAX, 0.0).is_some());
    }
}
