use std::time::Duration;

use tokio::time::Instant;

use crate::Backoff;

/// The pace at which messages are sent to one destination: one batch at a time, and a pause after each refusal. A
/// destination that refuses holds up no other.
#[derive(Debug, Clone)]
pub struct Pace {
    backoff: Backoff,
    busy_since: Option<Instant>,
    /// In a row.
    failures: u32,
    paused_until: Option<Instant>,
}

impl Pace {
    /// Makes that of a destination which is ready. `backoff` is the pause after a refusal.
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, busy_since: None, failures: 0, paused_until: None }
    }

    /// Whether a batch may be sent now.
    pub fn is_ready(&self) -> bool {
        self.busy_since.is_none() && self.paused_until.is_none_or(|until| until <= Instant::now())
    }

    /// Takes note that a batch is being sent.
    pub fn begin(&mut self) {
        self.busy_since = Some(Instant::now());
    }

    /// The batch was accepted. Returns whether the destination had refused before.
    pub fn succeeded(&mut self) -> bool {
        let had_failed = self.failures > 0;
        *self = Self::new(self.backoff);
        had_failed
    }

    /// The batch, or a part of it, was refused. Returns the pause, which `random` spreads as in [`Backoff::delay`].
    pub fn failed(&mut self, random: u64) -> Duration {
        self.busy_since = None;
        self.failures = self.failures.saturating_add(1);
        let pause = self.backoff.delay(self.failures, random);
        self.paused_until = Some(Instant::now() + pause);
        pause
    }

    /// Whether the last batch was refused. Then the next one should have one message, to find out whether others may
    /// follow.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// The time for which the batch that is being sent has not been answered.
    pub fn busy_for(&self) -> Option<Duration> {
        self.busy_since.map(|since| since.elapsed())
    }

    /// When a batch may be sent; in the past if the destination is ready. `None` while it is busy: then its answer
    /// comes next.
    pub fn ready_at(&self) -> Option<Instant> {
        match self.busy_since {
            Some(_) => None,
            None => Some(self.paused_until.unwrap_or_else(Instant::now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PAUSES: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(4) };

    #[tokio::test(start_paused = true)]
    async fn a_destination_has_one_batch_at_a_time() {
        let mut pace = Pace::new(PAUSES);
        assert!(pace.is_ready());
        pace.begin();
        advance(Duration::from_secs(9)).await;
        assert_eq!((pace.is_ready(), pace.ready_at()), (false, None));
        assert_eq!(pace.busy_for(), Some(Duration::from_secs(9)));
        assert!(!pace.succeeded(), "it had not failed");
        assert_eq!((pace.is_ready(), pace.ready_at()), (true, Some(Instant::now())));
    }

    #[tokio::test(start_paused = true)]
    async fn each_refusal_makes_the_pause_longer_and_a_success_ends_it() {
        let mut pace = Pace::new(PAUSES);
        for seconds in [1, 2, 4, 4] {
            pace.begin();
            let pause = pace.failed(u64::MAX);
            assert_eq!(pause.as_secs_f64().round(), f64::from(seconds));
            assert_eq!((pace.is_ready(), pace.is_failing()), (false, true));
            assert_eq!(pace.ready_at(), Some(Instant::now() + pause));
            advance(pause).await;
            assert!(pace.is_ready());
        }
        pace.begin();
        assert!(pace.succeeded());
        assert!(pace.is_ready() && !pace.is_failing());
    }
}
