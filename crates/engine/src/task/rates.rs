//! Rates that all processes keep together: each takes the moments at which its tasks begin from a row of the store.
//!
//! The row has the next moment that nobody has. A process moves it on by as many intervals as tasks wait here, on the
//! condition that it is as it was read; so no two tasks get the same moment, however many processes there are, and none
//! has to know how many. Nothing is read or written while no task waits.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{Clock, ErrorKind, Expect, Put, Result, Space, Timestamp};
use serde::{Deserialize, Serialize};

use crate::storage::turn_store::TurnStore;
use crate::wire;

const RATES: Space = "rates";
const FORMAT: u32 = 1;
/// How far ahead moments are taken. A task that would wait for longer goes back to the broker.
const AHEAD: Duration = Duration::from_secs(5);
/// How late a task may take a moment that another has left. Older moments are lost: tasks do not begin in a crowd.
const LATE: Duration = Duration::from_millis(100);
/// How often a row is read again that another process was quicker to write.
const TRIES: usize = 20;

#[derive(Serialize, Deserialize)]
struct Row {
    format: u32,
    /// The next moment that nobody has, in microseconds since the Unix epoch.
    next: u64,
}

/// The rates of a connection.
#[derive(Debug)]
pub(crate) struct Rates {
    stored: TurnStore,
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<String, Arc<Rate>>>,
}

/// The tasks of one rate that wait in this process.
#[derive(Debug, Default)]
struct Rate {
    waiting: AtomicUsize,
    /// Moments that were taken for them, in microseconds. One task asks the store for all that wait.
    moments: tokio::sync::Mutex<VecDeque<u64>>,
}

/// When a task may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// After this time.
    In(Duration),
    /// It has no moment, and asks again after this time.
    Later(Duration),
}

/// Counts a task among those that wait, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Rates {
    pub(crate) fn new(stored: TurnStore, clock: Arc<dyn Clock>) -> Self {
        Self { stored, clock, known: Mutex::default() }
    }

    /// Whether there is a store to keep them in.
    pub(crate) fn are_possible(&self) -> bool {
        self.stored.has_store()
    }

    /// Takes the next moment of the rate of this name.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Dropped, moments may be lost, so that a little less runs than might.
    pub(super) async fn take(&self, name: &str, per_second: f64) -> Result<Moment> {
        let rate = self.rate(name);
        let _waiting = Waiting::new(&rate.waiting);
        let mut moments = rate.moments.lock().await;
        let late = micros(self.clock.now()).saturating_sub(micros_of(LATE));
        while moments.pop_front_if(|moment| *moment < late).is_some() {}
        if moments.is_empty() {
            let count = rate.waiting.load(Ordering::Relaxed).max(1);
            match self.reserve(name, per_second, count).await? {
                Ok(reserved) => *moments = reserved,
                Err(wait) => return Ok(Moment::Later(wait)),
            }
        }
        let moment = moments.pop_front().unwrap_or_default();
        Ok(Moment::In(Duration::from_micros(moment.saturating_sub(micros(self.clock.now())))))
    }

    fn rate(&self, name: &str) -> Arc<Rate> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rate) = known.get(name) {
            return rate.clone();
        }
        known.entry(name.to_owned()).or_default().clone()
    }

    /// Takes up to `count` moments, one at least. `Err`: all of the next ones are taken, for so long.
    async fn reserve(
        &self,
        name: &str,
        per_second: f64,
        count: usize,
    ) -> Result<std::result::Result<VecDeque<u64>, Duration>> {
        let interval = Duration::try_from_secs_f64(per_second.recip()).map_or(u64::MAX, micros_of).max(1);
        let key = Bytes::copy_from_slice(name.as_bytes());
        for _ in 0..TRIES {
            let (expect, next) = match self.stored.get(RATES, key.clone()).await? {
                Some((version, row)) => (Expect::Version(version), wire::decode::<Row>(&row).map_or(0, |row| row.next)),
                None => (Expect::Absent, 0),
            };
            let now = micros(self.clock.now());
            let first = next.max(now);
            let room = micros_of(AHEAD).saturating_sub(first - now);
            if room == 0 {
                return Ok(Err(Duration::from_micros(first - now)));
            }
            let count = u64::try_from(count).unwrap_or(u64::MAX).min(room / interval).max(1);
            let moments = (0..count).map(|number| first.saturating_add(interval.saturating_mul(number)));
            let row = Row { format: FORMAT, next: first.saturating_add(interval.saturating_mul(count)) };
            let put = Put { space: RATES, key: key.clone(), expect, value: Some(wire::encode(&row)) };
            let written = self.stored.write(vec![vec![put]]).await?.into_iter().collect::<Result<()>>();
            match written {
                Ok(()) => return Ok(Ok(moments.collect())),
                // Another process has taken them.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Err(Duration::from_micros(interval).min(AHEAD)))
    }
}

fn micros(at: Timestamp) -> u64 {
    at.as_millis().saturating_mul(1_000)
}

fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use partitura_broker::{Broker, SystemClock};
    use partitura_embedded::{Embedded, Options};

    use super::*;
    use crate::wire::namespace::Namespace;

    /// Two processes on one store.
    fn processes() -> [Rates; 2] {
        let broker: Arc<dyn Broker> = Arc::new(Embedded::memory(Options::default()).expect("a broker in memory"));
        let stored = || TurnStore::of_client(&broker, None, Namespace::default());
        [stored(), stored()].map(|stored| Rates::new(stored, Arc::new(SystemClock)))
    }

    #[tokio::test]
    async fn no_two_tasks_of_any_process_get_the_same_moment() {
        let [one, other] = processes();
        let ten = async |rates: &Rates| {
            let mut all = Vec::new();
            for _ in 0..10 {
                all.extend(rates.reserve("mail", 100.0, 3).await.expect("written").expect("there is room"));
            }
            all
        };
        let (mut all, others) = tokio::join!(ten(&one), ten(&other));
        all.extend(others);
        all.sort_unstable();
        assert_eq!(all.len(), 60);
        assert!(all.windows(2).all(|two| two[1] - two[0] >= 10_000), "{all:?}");
    }

    #[tokio::test]
    async fn moments_are_taken_for_seconds_and_those_that_wait_share_them() {
        let [one, other] = processes();
        let all = one.reserve("mail", 10.0, 1_000).await.expect("written").expect("there is room");
        assert_eq!(all.len(), 50);
        // One or two more as time passes.
        let wait = loop {
            if let Err(wait) = other.reserve("mail", 10.0, 1).await.expect("written") {
                break wait;
            }
        };
        // The last one that was taken may be one interval beyond.
        assert!(wait <= AHEAD + Duration::from_millis(100) && wait > AHEAD / 2, "{wait:?}");
        let moments = futures::future::join_all((0..20).map(|_| other.take("rare", 10.0))).await;
        assert!(moments.iter().all(|moment| matches!(moment, Ok(Moment::In(wait)) if *wait < AHEAD)), "{moments:?}");
    }
}
