use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Capabilities, Clock, Credit, SystemClock};

use crate::{Retry, Trials};

/// The number of crashes with which a message is given up, unless another is set.
const CRASHES: u32 = 5;

/// How [`Lanes`](crate::Lanes) behave.
///
/// ```
/// use std::time::Duration;
/// use partitura_lanes::{LaneOptions, Retry};
///
/// let options = LaneOptions::default().concurrency(64).retry(Retry::fixed(Duration::from_secs(1)).max_attempts(5));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LaneOptions {
    /// How many batches are with the handler at once, each of another key.
    pub concurrency: NonZeroUsize,
    /// How many waiting messages of a key are handed over together.
    pub batch: NonZeroUsize,
    /// When to try again, and when to give up.
    pub retry: Retry,
    /// Whether messages that are held too long are parked.
    pub parking: bool,
    /// How long a message is held before it is parked; `None`: a third of what the broker allows, 5 minutes at most.
    pub hold: Option<Duration>,
    /// How many messages may wait in memory behind one that fails, before they are parked.
    pub behind: usize,
    /// With how many crashes of its process a message is given up; 0: it never is. See [`crashes`](Self::crashes).
    pub crashes: u32,
    /// Which lanes run accused messages one at a time.
    pub trials: Trials,
    /// How much may be held unsettled. With parking at least 8 messages for each partition.
    pub credit: Credit,
    /// How long a partition that goes elsewhere may be held to finish running handlers.
    pub revoke_within: Duration,
    /// How long a shutdown waits for running handlers. The rest is dropped, and its messages are delivered to another
    /// consumer.
    pub drain_within: Duration,
    /// Where the wall-clock time comes from; only delays need it.
    pub clock: Arc<dyn Clock>,
    /// The seed of jitter; `None`: the system's randomness.
    pub seed: Option<u64>,
}

impl Default for LaneOptions {
    /// 64 batches of one message at once, up to 10 attempts of which the second comes after 100 ms, no parking, 100
    /// messages behind a failing one, 5 crashes of a message's process, the default [`Credit`], 10 s for a hand-over
    /// and 30 s for a shutdown, the system's clock.
    fn default() -> Self {
        let of = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            concurrency: of(64),
            batch: of(1),
            retry: Retry::default().initial(Duration::from_millis(100)),
            parking: false,
            hold: None,
            behind: 100,
            crashes: CRASHES,
            trials: Trials::of_this_process(),
            credit: Credit::default(),
            revoke_within: Duration::from_secs(10),
            drain_within: Duration::from_secs(30),
            clock: Arc::new(SystemClock),
            seed: None,
        }
    }
}

impl LaneOptions {
    /// Sets how many batches are with the handler at once. Zero counts as one.
    #[must_use]
    pub fn concurrency(mut self, batches: usize) -> Self {
        self.concurrency = NonZeroUsize::new(batches).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// Sets how many waiting messages of a key are handed over together. Zero counts as one.
    #[must_use]
    pub fn batch(mut self, messages: usize) -> Self {
        self.batch = NonZeroUsize::new(messages).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// Sets when to try again, and when to give up.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Sets whether messages that are held too long are parked. The [topics](crate::SubscriptionTopics) must have been
    /// declared with parking.
    #[must_use]
    pub fn parking(mut self, on: bool) -> Self {
        self.parking = on;
        self
    }

    /// Sets how long a message is held before it is parked.
    #[must_use]
    pub fn hold(mut self, limit: Duration) -> Self {
        self.hold = Some(limit);
        self
    }

    /// Sets how many messages may wait in memory behind one that fails, before they are parked.
    #[must_use]
    pub fn behind(mut self, messages: usize) -> Self {
        self.behind = messages;
        self
    }

    /// Sets with how many crashes of its process a message is given up, 5 by default; 0: it never is. One counts as 2.
    ///
    /// A message may end the process that runs it: by an abort, a stack overflow, too much memory. With
    /// [parking](Self::parking), a redelivered message is published to the parking topic before it runs, with a note of
    /// the number of its crashes. From the second crash on it is accused, and runs beside no other accused message of
    /// the process. With this many crashes it is handed to [`Handler::give_up`](crate::Handler::give_up), and becomes a
    /// dead letter. Its key waits meanwhile, the others flow.
    ///
    /// The first delivery may be flagged as redelivered by mistake, which counts as one crash.
    #[must_use]
    pub fn crashes(mut self, limit: u32) -> Self {
        self.crashes = limit;
        self
    }

    /// Sets which lanes run accused messages one at a time: those with the same [`Trials`]. By default these are all
    /// lanes of the process; a test that plays several processes needs more than one.
    #[must_use]
    pub fn trials(mut self, trials: Trials) -> Self {
        self.trials = trials;
        self
    }

    /// Sets how much may be held unsettled.
    #[must_use]
    pub fn credit(mut self, credit: Credit) -> Self {
        self.credit = credit;
        self
    }

    /// Sets how long a partition that goes elsewhere may be held to finish what runs.
    #[must_use]
    pub fn revoke_within(mut self, limit: Duration) -> Self {
        self.revoke_within = limit;
        self
    }

    /// Sets how long a shutdown waits for running handlers.
    #[must_use]
    pub fn drain_within(mut self, limit: Duration) -> Self {
        self.drain_within = limit;
        self
    }

    /// Sets where the wall-clock time comes from.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the seed of jitter, for lanes that do the same each time.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The holding bound on a broker with these capabilities.
    pub(crate) fn holds(&self, capabilities: &Capabilities) -> Duration {
        const LONGEST: Duration = Duration::from_secs(300);
        let third = |hold: Duration| hold / 3;
        let allowed = capabilities.hold.map(third);
        match (self.hold, allowed) {
            (Some(wanted), Some(allowed)) => wanted.min(allowed),
            (Some(wanted), None) => wanted,
            (None, Some(allowed)) => allowed.min(LONGEST),
            (None, None) => LONGEST,
        }
    }
}
