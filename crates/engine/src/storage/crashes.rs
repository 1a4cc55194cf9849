//! How often a process was lost while it ran a task or a turn: one row for each that may be the reason, written before
//! it begins and removed when it has ended.
//!
//! Tasks and commands that are delivered for the first time have no row, and cost nothing.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use partitura_broker::{Error, Expect, Put, Result, Space};
use partitura_lanes::Trials;
use tokio::time::sleep;

use crate::storage::turn_store::TurnStore;
use crate::wire;

/// What ran → how often its process was lost.
const CRASHES: Space = "crashes";

/// Counts crashes.
#[derive(Debug)]
pub(crate) struct Crashes {
    stored: TurnStore,
    /// With how many crashes something is given up; 0: it never is.
    limit: u32,
    trials: Trials,
    /// The rows that this process wrote and has not removed: it has survived what they stand for.
    own: Mutex<HashSet<Bytes>>,
}

/// Why something was not run.
#[derive(Debug)]
pub(crate) enum NotRun {
    /// Its process was lost this often while it ran.
    GivenUp(u32),
    /// It cannot be noted that it begins.
    NotNoted(Error),
}

impl Crashes {
    pub(crate) fn new(stored: TurnStore, limit: u32, trials: Trials) -> Self {
        Self { stored, limit: Trials::limit(limit), trials, own: Mutex::default() }
    }

    /// Runs something that may have ended a process before. `name` is its own among all that is counted.
    pub(crate) async fn run<T>(&self, name: Bytes, work: impl Future<Output = T>) -> Result<T, NotRun> {
        if self.limit == 0 || !self.stored.has_store() {
            return Ok(work.await);
        }
        let crashes = self.count(&name).await.map_err(NotRun::NotNoted)?;
        if crashes >= self.limit {
            return Err(NotRun::GivenUp(crashes));
        }
        let noted = async {
            self.write(&name, Some(crashes)).await.map_err(NotRun::NotNoted)?;
            self.own().insert(name.clone());
            Ok(work.await)
        };
        let ended = if Trials::is_accused(crashes) { self.try_alone(crashes, noted).await } else { noted.await };
        if ended.is_ok() {
            self.forget(&name).await;
        }
        ended
    }

    /// Removes what was counted. If that fails, the row stays, and nothing asks for it any more.
    pub(crate) async fn forget(&self, name: &Bytes) {
        if let Err(error) = self.write(name, None).await {
            tracing::debug!(%error, "keeping the crashes of a task or a command that has ended");
        }
        self.own().remove(name);
    }

    /// The number of crashes, with the one that the redelivery stands for.
    async fn count(&self, name: &Bytes) -> Result<u32> {
        let found = self.stored.get(CRASHES, name.clone()).await?;
        // A row that cannot be read was written by a newer version: it is counted anew.
        let before = found.and_then(|(_, value)| wire::decode::<u32>(&value).ok()).unwrap_or_default();
        let is_own = before > 0 && self.own().contains(name);
        Ok(before.saturating_add(u32::from(!is_own)))
    }

    async fn write(&self, name: &Bytes, crashes: Option<u32>) -> Result<()> {
        let value = crashes.map(|crashes| wire::encode(&crashes));
        let put = Put { space: CRASHES, key: name.clone(), expect: Expect::Any, value };
        self.stored.write(vec![vec![put]]).await?.pop().unwrap_or(Ok(()))
    }

    /// Waits for the trials of others, and keeps others waiting for a time.
    async fn try_alone<T>(&self, crashes: u32, work: impl Future<Output = T>) -> T {
        while !self.trials.begin() {
            sleep(Trials::LOOK).await;
        }
        let trial = OnTrial(&self.trials);
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            ended = &mut work => return ended,
            () = sleep(Trials::lasts(crashes)) => drop(trial),
        }
        work.await
    }

    fn own(&self) -> MutexGuard<'_, HashSet<Bytes>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A trial, which ends when this is dropped.
struct OnTrial<'a>(&'a Trials);

impl Drop for OnTrial<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use partitura_broker::Broker;
    use partitura_embedded::Embedded;

    use super::*;
    use crate::wire::namespace::Namespace;

    const NAME: Bytes = Bytes::from_static(b"task\0one");

    fn broker() -> Arc<dyn Broker> {
        Arc::new(Embedded::memory(Default::default()).expect("a broker"))
    }

    /// What one process counts.
    fn process(broker: &Arc<dyn Broker>) -> Crashes {
        Crashes::new(TurnStore::of_client(broker, None, Namespace::default()), 5, Trials::default())
    }

    /// Begins to run in a process, which is lost meanwhile.
    async fn crash(broker: &Arc<dyn Broker>) -> Result<(), NotRun> {
        let (begun, process) = (tokio::sync::Notify::new(), process(broker));
        let run = process.run(NAME, async {
            begun.notify_one();
            std::future::pending::<()>().await;
        });
        tokio::select! {
            biased;
            ended = run => ended,
            () = begun.notified() => Ok(()),
        }
    }

    #[tokio::test]
    async fn what_was_running_each_time_when_a_process_was_lost_is_given_up() {
        let broker = broker();
        for _ in 1..5 {
            assert!(crash(&broker).await.is_ok());
        }
        assert!(matches!(crash(&broker).await, Err(NotRun::GivenUp(5))));
        process(&broker).forget(&NAME).await;
        assert!(crash(&broker).await.is_ok(), "sent again, it begins anew");
    }

    #[tokio::test]
    async fn what_has_ended_is_counted_anew() {
        let broker = broker();
        for _ in 0..10 {
            assert!(crash(&broker).await.is_ok());
            assert!(process(&broker).run(NAME, async {}).await.is_ok());
        }
    }

    #[tokio::test]
    async fn what_comes_again_to_a_process_that_lives_is_no_crash() {
        let (broker, dropped) = (broker(), tokio::sync::Notify::new());
        let process = process(&broker);
        for _ in 0..10 {
            let run = process.run(NAME, async {
                dropped.notify_one();
                std::future::pending::<()>().await;
            });
            tokio::select! {
                biased;
                ended = run => panic!("{ended:?}"),
                () = dropped.notified() => {}
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn accused_ones_run_one_at_a_time() {
        let broker = broker();
        let names: Vec<Bytes> = (0..4).map(|n: u8| Bytes::from(vec![n])).collect();
        let (process, running) = (process(&broker), AtomicUsize::new(0));
        for name in &names {
            process.write(name, Some(1)).await.expect("written");
        }
        let runs = names.iter().map(|name| {
            process.run(name.clone(), async {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "another is on trial");
                sleep(Duration::from_millis(500)).await;
                running.fetch_sub(1, Ordering::SeqCst);
            })
        });
        futures::future::try_join_all(runs).await.expect("all ran");
    }
}
