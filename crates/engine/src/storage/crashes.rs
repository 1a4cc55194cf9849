//! How often a process was lost while it ran a task or a turn: one row for each that may be the reason, written before
//! it begins and removed when it has ended.
//!
//! Tasks and commands that are delivered for the first time have no row, and cost nothing. The others cost one request
//! before they begin: the row of one that comes again for the first time must not exist, so that it need not be read.
//! Rows are removed in the background, all that have ended meanwhile in one request, or with the next row that is
//! written.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, Expect, Put, Result, Space};
use partitura_lanes::Trials;
use tokio::time::sleep;

use crate::storage::turn_store::TurnStore;
use crate::wire;

/// The run that was lost with its process → how often.
const CRASHES: Space = "crashes";

/// Counts crashes.
#[derive(Debug)]
pub(crate) struct Crashes {
    stored: TurnStore,
    /// With how many crashes something is given up; 0: it never is.
    limit: u32,
    trials: Trials,
    rows: Arc<Mutex<Rows>>,
}

/// The knowledge of this process about the rows.
#[derive(Debug, Default)]
struct Rows {
    /// Those that it wrote and has not removed: it has survived what they stand for.
    own: HashSet<Bytes>,
    /// Those of what has ended.
    ended: Vec<Bytes>,
    /// A task removes them.
    is_removing: bool,
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
        Self { stored, limit: Trials::limit(limit), trials, rows: Arc::default() }
    }

    /// Runs something that may have ended a process before. `name` is its own among all that is counted. `work` is
    /// [`Unpin`], boxed if it is large: it is kept in more than one place, and every turn and task would be as large.
    pub(crate) async fn run<T>(&self, name: Bytes, mut work: impl Future<Output = T> + Unpin) -> Result<T, NotRun> {
        if self.limit == 0 || !self.stored.has_store() {
            return Ok(work.await);
        }
        if self.is_first(&name).await.map_err(NotRun::NotNoted)? {
            let ended = work.await;
            self.forget(name);
            return Ok(ended);
        }
        loop {
            let (crashes, expect) = self.count(&name).await.map_err(NotRun::NotNoted)?;
            if crashes >= self.limit {
                return Err(NotRun::GivenUp(crashes));
            }
            let noted = async {
                match self.note(&name, expect, crashes).await {
                    Ok(()) => Ok(Some((&mut work).await)),
                    // Another process has begun a copy since it was counted.
                    Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
                    Err(error) => Err(NotRun::NotNoted(error)),
                }
            };
            let ended = if Trials::is_accused(crashes) { self.try_alone(crashes, noted).await } else { noted.await };
            if let Some(ended) = ended? {
                self.forget(name);
                return Ok(ended);
            }
        }
    }

    /// Has what was counted removed. If that fails, the row stays, and nothing asks for it any more.
    pub(crate) fn forget(&self, name: Bytes) {
        let is_removing = {
            let mut rows = lock(&self.rows);
            rows.ended.push(name);
            std::mem::replace(&mut rows.is_removing, true)
        };
        if !is_removing {
            tokio::spawn(remove(self.stored.clone(), self.rows.clone()));
        }
    }

    /// Notes that something begins that came again, if it has no row yet.
    async fn is_first(&self, name: &Bytes) -> Result<bool> {
        if lock(&self.rows).own.contains(name) {
            return Ok(false);
        }
        match self.note(name, Expect::Absent, 1).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The number of crashes, with the one that the redelivery stands for, and the state of the row from which it was
    /// counted.
    async fn count(&self, name: &Bytes) -> Result<(u32, Expect)> {
        let Some((version, value)) = self.stored.get(CRASHES, name.clone()).await? else {
            return Ok((1, Expect::Absent));
        };
        // A row that cannot be read was written by a newer version: it is counted anew.
        let before = wire::decode::<u32>(&value).unwrap_or_default();
        let is_own = before > 0 && lock(&self.rows).own.contains(name);
        Ok((before.saturating_add(u32::from(!is_own)), Expect::Version(version)))
    }

    /// Writes a row, and removes those of what has ended.
    async fn note(&self, name: &Bytes, expect: Expect, crashes: u32) -> Result<()> {
        let mut ended = std::mem::take(&mut lock(&self.rows).ended);
        ended.retain(|ended| ended != name);
        let row = put(name.clone(), expect, Some(crashes));
        let groups = std::iter::once(vec![row]).chain(ended.iter().map(|ended| vec![removal(ended)])).collect();
        let written = self.stored.write(groups).await;
        let mut rows = lock(&self.rows);
        let written = match written {
            Ok(results) => results.into_iter().next().unwrap_or(Ok(())),
            Err(error) => {
                rows.ended.append(&mut ended);
                return Err(error);
            }
        };
        for name in &ended {
            rows.own.remove(name);
        }
        match &written {
            Ok(()) => drop(rows.own.insert(name.clone())),
            Err(error) if error.kind() == ErrorKind::Conflict => drop(rows.own.remove(name)),
            // It may be written all the same. That is no crash.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => drop(rows.own.insert(name.clone())),
            Err(_) => {}
        }
        drop(rows);
        written
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
}

fn lock(rows: &Mutex<Rows>) -> MutexGuard<'_, Rows> {
    rows.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put(name: Bytes, expect: Expect, crashes: Option<u32>) -> Put {
    Put { space: CRASHES, key: name, expect, value: crashes.map(|crashes| wire::encode(&crashes)) }
}

fn removal(name: &Bytes) -> Put {
    put(name.clone(), Expect::Any, None)
}

/// Removes the rows of what has ended, until there are no more.
async fn remove(stored: TurnStore, rows: Arc<Mutex<Rows>>) {
    loop {
        let ended = {
            let mut rows = lock(&rows);
            rows.is_removing = !rows.ended.is_empty();
            std::mem::take(&mut rows.ended)
        };
        if ended.is_empty() {
            return;
        }
        let removed = stored.write(ended.iter().map(|ended| vec![removal(ended)]).collect()).await;
        for error in removed.unwrap_or_else(|error| vec![Err(error)]).into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "keeping the crashes of a task or a command that has ended");
        }
        let mut rows = lock(&rows);
        for name in &ended {
            rows.own.remove(name);
        }
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

    use async_trait::async_trait;
    use partitura_broker::{Broker, Entry, ScanRange, Version};
    use partitura_embedded::Embedded;

    use super::*;
    use crate::storage::store::{BrokerStore, Store};
    use crate::wire::namespace::Namespace;

    const NAME: Bytes = Bytes::from_static(b"task\0one");

    fn broker() -> Arc<dyn Broker> {
        Arc::new(Embedded::memory(Default::default()).expect("a broker"))
    }

    /// The counts of one process.
    fn process(broker: &Arc<dyn Broker>) -> Crashes {
        Crashes::new(TurnStore::of_client(broker, None, Namespace::default()), 5, Trials::default())
    }

    /// Waits until no row is left.
    async fn removed(stored: &TurnStore) {
        while !stored.scan(ScanRange::prefix(CRASHES, Vec::new()), 1).await.expect("read").is_empty() {
            tokio::task::yield_now().await;
        }
    }

    /// Begins to run in a process, which is lost meanwhile.
    async fn crash(broker: &Arc<dyn Broker>) -> Result<(), NotRun> {
        let (begun, process) = (tokio::sync::Notify::new(), process(broker));
        let run = process.run(
            NAME,
            Box::pin(async {
                begun.notify_one();
                std::future::pending::<()>().await;
            }),
        );
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
        let process = process(&broker);
        process.forget(NAME);
        removed(&process.stored).await;
        assert!(crash(&broker).await.is_ok(), "sent again, it begins anew");
    }

    #[tokio::test]
    async fn what_has_ended_is_counted_anew() {
        let broker = broker();
        for _ in 0..10 {
            assert!(crash(&broker).await.is_ok());
            let process = process(&broker);
            assert!(process.run(NAME, Box::pin(async {})).await.is_ok());
            removed(&process.stored).await;
        }
    }

    #[tokio::test]
    async fn what_comes_again_to_a_process_that_lives_is_no_crash() {
        let (broker, dropped) = (broker(), tokio::sync::Notify::new());
        let process = process(&broker);
        for _ in 0..10 {
            let run = process.run(
                NAME,
                Box::pin(async {
                    dropped.notify_one();
                    std::future::pending::<()>().await;
                }),
            );
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
            process.stored.write(vec![vec![put(name.clone(), Expect::Any, Some(1))]]).await.expect("written");
        }
        let runs = names.iter().map(|name| {
            process.run(
                name.clone(),
                Box::pin(async {
                    assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "another is on trial");
                    sleep(Duration::from_millis(500)).await;
                    running.fetch_sub(1, Ordering::SeqCst);
                }),
            )
        });
        futures::future::try_join_all(runs).await.expect("all ran");
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_another_process_begins_while_this_one_waits_is_counted() {
        let broker = broker();
        let waiting = process(&broker);
        for name in [Bytes::from_static(b"another"), NAME] {
            waiting.stored.write(vec![vec![put(name, Expect::Any, Some(1))]]).await.expect("written");
        }
        let another = waiting.run(Bytes::from_static(b"another"), Box::pin(sleep(Duration::from_millis(500))));
        let copy = async {
            sleep(Duration::from_millis(100)).await;
            assert!(crash(&broker).await.is_ok());
        };
        let begun = waiting.run(
            NAME,
            Box::pin(async {
                let row = waiting.stored.get(CRASHES, NAME).await.expect("read").expect("a row");
                assert_eq!(wire::decode::<u32>(&row.1).expect("a number"), 3, "the one before, the copy, and the next");
            }),
        );
        let (another, (), begun) = tokio::join!(another, copy, begun);
        assert!(another.is_ok() && begun.is_ok());
    }

    /// A store that counts the requests.
    #[derive(Debug)]
    struct Counting(BrokerStore, Arc<AtomicUsize>);

    #[async_trait]
    impl Store for Counting {
        async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.write(groups).await
        }

        async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.get(space, key).await
        }

        async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
            self.0.scan(range, limit).await
        }
    }

    #[tokio::test]
    async fn each_that_comes_again_costs_one_request_and_what_has_ended_is_removed_together() {
        let (broker, requests) = (broker(), Arc::new(AtomicUsize::new(0)));
        let counting = Counting(BrokerStore::new(broker.clone()).expect("a store"), requests.clone());
        let stored = TurnStore::of_client(&broker, Some(Arc::new(counting)), Namespace::default());
        let process = Crashes::new(stored.clone(), 5, Trials::default());
        let (begun, together) = (AtomicUsize::new(0), tokio::sync::Barrier::new(100));
        let runs = (0..100).map(|n: u8| {
            let work = async {
                begun.fetch_add(1, Ordering::SeqCst);
                if together.wait().await.is_leader() {
                    assert_eq!(requests.load(Ordering::SeqCst), 100, "of a hundred, before the first has ended");
                }
            };
            process.run(Bytes::from(vec![n]), Box::pin(work))
        });
        futures::future::try_join_all(runs).await.expect("all ran");
        removed(&stored).await;
        assert_eq!(begun.load(Ordering::SeqCst), 100);
        assert!(requests.load(Ordering::SeqCst) <= 102, "{requests:?}");
    }
}
