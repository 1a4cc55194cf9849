use std::num::NonZeroU32;
use std::time::Duration;

/// When to run a failed message again, and when to give up.
///
/// While it waits, its key waits with it; the others flow. When the attempts are used up, the message becomes a dead
/// letter and its key goes on.
///
/// ```
/// use std::time::Duration;
/// use partitura_lanes::Retry;
///
/// let patient = Retry::exponential().initial(Duration::from_millis(50)).max_interval(Duration::from_secs(30));
/// let strict = Retry::fixed(Duration::from_secs(1)).max_attempts(3);
/// let never = Retry::none();
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    initial: Duration,
    factor: f64,
    max_interval: Duration,
    jitter: f64,
    max_attempts: Option<NonZeroU32>,
}

impl Default for Retry {
    /// [`exponential`](Self::exponential), up to 10 attempts: about 50 s in all.
    fn default() -> Self {
        Self::exponential().max_attempts(10)
    }
}

impl Retry {
    /// Waits 100 ms, then twice as long each time, up to a minute, with 20 % of jitter; without end.
    pub fn exponential() -> Self {
        Self {
            initial: Duration::from_millis(100),
            factor: 2.0,
            max_interval: Duration::from_secs(60),
            jitter: 0.2,
            max_attempts: None,
        }
    }

    /// Waits the same each time, without jitter and without end.
    pub fn fixed(interval: Duration) -> Self {
        Self { initial: interval, factor: 1.0, max_interval: interval, jitter: 0.0, max_attempts: None }
    }

    /// Does not try again: what fails is a dead letter at once.
    pub fn none() -> Self {
        Self::fixed(Duration::ZERO).max_attempts(1)
    }

    /// Sets the first wait.
    #[must_use]
    pub fn initial(mut self, interval: Duration) -> Self {
        self.initial = interval;
        self
    }

    /// Sets by how much each wait is longer than the one before. Below 1 counts as 1.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor.max(1.0);
        self
    }

    /// Sets the longest wait, before jitter.
    #[must_use]
    pub fn max_interval(mut self, interval: Duration) -> Self {
        self.max_interval = interval;
        self
    }

    /// Sets how much is added at random: up to this part of the wait, from 0 to 1. A wait is never shortened.
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = part.clamp(0.0, 1.0);
        self
    }

    /// Sets how often a message is run at most, the first run included. Zero counts as one.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(NonZeroU32::new(attempts).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// Whether so many failed attempts are the end.
    pub fn gives_up_after(&self, attempts: u32) -> bool {
        self.max_attempts.is_some_and(|max| attempts >= max.get())
    }

    /// How long to wait after so many failed attempts. `random`, from 0 to 1, decides the jitter.
    pub fn interval(&self, attempts: u32, random: f64) -> Duration {
        let exponent = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
        let limit = self.max_interval.as_secs_f64();
        let seconds = (self.initial.as_secs_f64() * self.factor.powi(exponent)).min(limit);
        let jittered = seconds * (1.0 + self.jitter * random.clamp(0.0, 1.0));
        Duration::try_from_secs_f64(jittered).unwrap_or(self.max_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_grow_up_to_the_limit_and_jitter_only_adds() {
        let retry = Retry::exponential().max_interval(Duration::from_secs(1));
        let millis = |n, random| retry.interval(n, random).as_millis();
        assert_eq!([1, 2, 3, 4, 5, u32::MAX].map(|n| millis(n, 0.0)), [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(millis(1, 1.0), 120);
        assert_eq!(Retry::fixed(Duration::MAX).interval(9, 1.0), Duration::MAX);
    }

    #[test]
    fn attempts_count_from_one_and_the_first_is_one_of_them() {
        let retry = Retry::fixed(Duration::ZERO).max_attempts(3);
        assert_eq!([1, 2, 3].map(|n| retry.gives_up_after(n)), [false, false, true]);
        assert!(Retry::none().gives_up_after(1));
        assert!(!Retry::exponential().gives_up_after(u32::MAX));
    }
}
