//! The suite for stores: those of this repository pass it, and each mutant is caught.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura::contract::{Entry, Error, ErrorKind, Expect, Put, Result, ScanRange, Space, Version};
use partitura::testing::store;
use partitura::{BrokerStore, Store};

async fn store_at(url: &str) -> BrokerStore {
    BrokerStore::new(partitura::broker(url).await.expect("a broker")).expect("it has transactions")
}

#[tokio::test]
async fn the_stores_of_the_embedded_broker_pass_the_suite() {
    let directory = tempfile::tempdir().expect("a directory");
    for url in ["memory:".to_owned(), format!("embedded:{}", directory.path().display())] {
        let report = store::check(Arc::new(store_at(&url).await)).await;
        assert!(report.is_kept() && report.tried == store::cases().len(), "{url}: {report}");
    }
}

/// A bug that a store may have.
#[derive(Debug, Clone, Copy)]
enum Bug {
    /// Conditions are not looked at.
    Unconditional,
    /// Any version will do.
    AnyVersion,
    /// The puts of a group are written one by one.
    Halves,
    /// A group that conflicts has the rest of the call refused.
    Together,
    /// A conflict is told as written.
    Silent,
    /// Removed rows stay removed.
    Kept,
    /// An empty value is taken for none.
    EmptyIsNone,
    /// Keys are texts, and end at the first zero.
    Texts,
    /// A scan has no order.
    Unordered,
    /// A scan gives one key more than it should.
    EndIncluded,
    /// A scan gives one more than it was asked for.
    OneMore,
    /// A count does not know its limit.
    CountsAll,
    /// Ranges that are read at once come in the wrong order.
    Swapped,
    /// All spaces are one.
    OneSpace,
    /// The version does not change when the value does not.
    Unversioned,
    /// The last value of a call is forgotten.
    Forgets,
    /// Large values are cut.
    Cut,
}

const BUGS: [Bug; 17] = [
    Bug::Unconditional,
    Bug::AnyVersion,
    Bug::Halves,
    Bug::Together,
    Bug::Silent,
    Bug::Kept,
    Bug::EmptyIsNone,
    Bug::Texts,
    Bug::Unordered,
    Bug::EndIncluded,
    Bug::OneMore,
    Bug::CountsAll,
    Bug::Swapped,
    Bug::OneSpace,
    Bug::Unversioned,
    Bug::Forgets,
    Bug::Cut,
];

#[derive(Debug)]
struct Mutant {
    inner: BrokerStore,
    bug: Bug,
}

impl Mutant {
    fn key(&self, key: &Bytes) -> Bytes {
        match self.bug {
            Bug::Texts => key.slice(..key.iter().position(|byte| *byte == 0).unwrap_or(key.len())),
            _ => key.clone(),
        }
    }

    fn space(&self, space: Space) -> Space {
        if matches!(self.bug, Bug::OneSpace) { "suite" } else { space }
    }

    async fn changed(&self, mut put: Put) -> Option<Put> {
        (put.space, put.key) = (self.space(put.space), self.key(&put.key));
        match (self.bug, put.expect) {
            (Bug::Unconditional, _) | (Bug::AnyVersion, Expect::Version(_)) => put.expect = Expect::Any,
            _ => {}
        }
        let present = self.inner.get(put.space, put.key.clone()).await.ok().flatten();
        let is_same = present.map(|(_, value)| value) == put.value;
        match (self.bug, &put.value) {
            (Bug::Kept, None) => return None,
            (Bug::Unversioned, Some(_)) if is_same => return None,
            (Bug::EmptyIsNone, Some(value)) if value.is_empty() => put.value = None,
            (Bug::Cut, Some(value)) if value.len() > 1 << 20 => put.value = Some(value.slice(..1 << 20)),
            _ => {}
        }
        Some(put)
    }

    async fn group(&self, group: Vec<Put>) -> Result<()> {
        let mut puts = Vec::new();
        for put in group {
            puts.extend(self.changed(put).await);
        }
        if matches!(self.bug, Bug::Halves) {
            for put in puts {
                self.inner.write(vec![vec![put]]).await.pop().expect("an answer")?;
            }
            return Ok(());
        }
        self.inner.write(vec![puts]).await.pop().expect("an answer")
    }
}

#[async_trait]
impl Store for Mutant {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        let last = groups.len().saturating_sub(1);
        let (mut answers, mut failed) = (Vec::new(), false);
        for (at, group) in groups.into_iter().enumerate() {
            let answer = match self.bug {
                Bug::Together if failed => Err(Error::new(ErrorKind::Conflict, "write", "with another")),
                Bug::Forgets if at == last && at > 0 => Ok(()),
                _ => self.group(group).await,
            };
            failed |= answer.is_err();
            answers.push(if matches!(self.bug, Bug::Silent) { Ok(()) } else { answer });
        }
        answers
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.inner.get(self.space(space), self.key(&key)).await
    }

    async fn scan(&self, mut range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        range.space = self.space(range.space);
        match (self.bug, &range.to) {
            (Bug::EndIncluded, Some(to)) => range.to = Some([to, &b"\0"[..]].concat().into()),
            (Bug::OneMore, _) => return self.inner.scan(range, limit + 1).await,
            (Bug::Unordered, _) => {
                let mut found = self.inner.scan(range, limit).await?;
                found.reverse();
                return Ok(found);
            }
            _ => {}
        }
        self.inner.scan(range, limit).await
    }

    async fn count(&self, range: ScanRange, limit: usize) -> Result<usize> {
        let limit = if matches!(self.bug, Bug::CountsAll) { usize::MAX } else { limit };
        Ok(self.scan(range, limit).await?.len())
    }

    async fn scan_each(&self, mut ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<Vec<Entry>>> {
        if matches!(self.bug, Bug::Swapped) {
            ranges.reverse();
        }
        let mut found = Vec::new();
        for range in ranges {
            found.push(self.scan(range, limit).await?);
        }
        Ok(found)
    }
}

#[tokio::test]
async fn each_mutant_of_a_store_is_caught() {
    let mut caught = std::collections::BTreeSet::new();
    for bug in BUGS {
        let report = store::check(Arc::new(Mutant { inner: store_at("memory:").await, bug })).await;
        assert!(!report.is_kept(), "no case has caught {bug:?}");
        caught.extend(report.failed.into_iter().map(|(name, _)| name));
    }
    // Those that catch none need a store that is slow, or has a clock.
    let idle: Vec<_> =
        store::cases().into_iter().map(|case| case.name()).filter(|name| !caught.contains(name)).collect();
    assert_eq!(idle, ["write.dropped", "clock.forward"], "cases that catch no mutant");
}

/// The answer of a store to a write whose connection breaks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Guess {
    /// No guess: the outcome is unknown.
    Unknown,
    /// Nothing was written.
    Failed,
    /// It was written.
    Written,
    /// It is written again, and that answer counts.
    Again,
}

/// A store whose connections can be cut: writes that are under way then lose their answers, or never arrive.
#[derive(Debug)]
struct Cuttable {
    inner: BrokerStore,
    guess: Guess,
    cuts: AtomicUsize,
}

impl Cuttable {
    /// Takes the time of one way, and says whether the connection broke meanwhile.
    async fn breaks(&self) -> bool {
        let before = self.cuts.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.cuts.load(Ordering::SeqCst) > before
    }

    async fn lost(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        let failed = |kind| groups.iter().map(|_| Err(Error::new(kind, "write", "the connection broke"))).collect();
        match self.guess {
            Guess::Unknown => failed(ErrorKind::OutcomeUnknown),
            Guess::Failed => failed(ErrorKind::Disconnected),
            Guess::Written => groups.iter().map(|_| Ok(())).collect(),
            Guess::Again => self.inner.write(groups).await,
        }
    }
}

#[async_trait]
impl Store for Cuttable {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        if self.breaks().await {
            return self.lost(groups).await;
        }
        let answers = self.inner.write(groups.clone()).await;
        if self.breaks().await { self.lost(groups).await } else { answers }
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.inner.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.inner.scan(range, limit).await
    }
}

#[tokio::test]
async fn a_store_that_guesses_what_became_of_a_write_is_caught() {
    for guess in [Guess::Unknown, Guess::Failed, Guess::Written, Guess::Again] {
        let store = Arc::new(Cuttable { inner: store_at("memory:").await, guess, cuts: AtomicUsize::new(0) });
        let cut = async || {
            store.cuts.fetch_add(1, Ordering::SeqCst);
        };
        let kept = store::check_cut(store.clone(), cut).await;
        assert_eq!(kept.is_ok(), guess == Guess::Unknown, "{guess:?}: {kept:?}");
    }
}
