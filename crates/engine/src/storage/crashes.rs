//! How often a process was lost while it ran a task or a turn: one row for each that may be the reason, written before
//! it begins and removed when it has ended. One that is dropped in a process that lives is not counted.
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
use tokio::runtime::Handle;
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
            return Ok(self.noted(&name, 1, work).await);
        }
        loop {
            let (crashes, expect) = self.count(&name).await.map_err(NotRun::NotNoted)?;
            if crashes >= self.limit {
                return Err(NotRun::GivenUp(crashes));
            }
            let noted = async {
                match self.note(&name, expect, crashes).await {
                    Ok(()) => Ok(Some(self.noted(&name, crashes, &mut work).await)),
                    // Another process has begun a copy since it was counted.
                    Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
                    Err(error) => Err(NotRun::NotNoted(error)),
                }
            };
            let ended = if Trials::is_accused(crashes) { self.try_alone(crashes, noted).await } else { noted.await };
            if let Some(ended) = ended? {
                return Ok(ended);
            }
        }
    }

    /// Runs what was noted to begin with this many crashes, and has the note removed.
    async fn noted<T>(&self, name: &Bytes, crashes: u32, work: impl Future<Output = T>) -> T {
        let noted = Noted { counts: self, name, crashes };
        let ended = work.await;
        std::mem::forget(noted);
        self.forget(name.clone());
        ended
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

/// Something that is noted and runs. If it is dropped before it has ended, its worker was dropped or has waited long
/// enough, and the process lives: that is no crash.
struct Noted<'a> {
    counts: &'a Crashes,
    name: &'a Bytes,
    crashes: u32,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        // Without a runtime the process is about to end.
        if let Ok(runtime) = Handle::try_current() {
            let Self { counts: Crashes { stored, rows, .. }, name, crashes } = *self;
            runtime.spawn(take_back(stored.clone(), rows.clone(), name.clone(), crashes));
        }
    }
}

/// Takes back the note of something that was dropped, unless another process has begun it since.
async fn take_back(stored: TurnStore, rows: Arc<Mutex<Rows>>, name: Bytes, crashes: u32) {
    let taken = async {
        let Some((version, value)) = stored.get(CRASHES, name.clone()).await? else { return Ok(()) };
        if wire::decode(&value).ok() != Some(crashes) {
            return Ok(());
        }
        let before = Some(crashes.saturating_sub(1)).filter(|before| *before > 0);
        let row = put(name.clone(), Expect::Version(version), before);
        stored.write(vec![vec![row]]).await?.into_iter().next().unwrap_or(Ok(()))
    };
    match taken.await {
        Ok(()) => drop(lock(&rows).own.remove(&name)),
        Err(error) => tracing::debug!(%error, "counting a task or a turn that was dropped as a crash"),
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
mod tests;
