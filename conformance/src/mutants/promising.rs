//! Mutants that declare, close and commit wrongly.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use partitura_broker::{
    Broker, Capabilities, DeclareMode, Entry, Error, ErrorKind, Expect, Result, ScanRange, TopicName, Topology,
    Transactions, Unit,
};

use super::mutant::{Mutant, mutant};
use super::mutation::{Mutation, Own, wrap};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(
        "accepts_another_partition_count",
        "order.repartition",
        "accepts another number of partitions",
        Accepts(ErrorKind::Incompatible)
    ),
    mutant!(
        "verifies_nothing",
        "admin.verify_only",
        "says that all is there when it only verifies",
        Accepts(ErrorKind::NotFound)
    ),
    mutant!("verifying_creates", "admin.verify_only", "creates a topic that it should only verify", VerifyingCreates),
    mutant!(
        "declares_once",
        "admin.idempotent",
        "refuses to declare a topic that exists",
        DeclaresOnce(AtomicBool::new(false))
    ),
    mutant!("hides_transactions", "cap.honest", "has transactions that it does not declare", HidesTransactions),
    mutant!("stays_open", "close.closed", "does not close", StaysOpen),
    mutant!("denies_subscribers", "publish.subscribers", "denies its subscribers", DeniesSubscribers),
    mutant!(
        "forgets_subscribers",
        "publish.subscribers",
        "denies all subscribers when one consumer has left",
        ForgetsSubscribers(AtomicBool::new(false))
    ),
    mutant!(
        "commits_in_parts",
        "transaction.atomic",
        "publishes and writes before it knows whether it may settle",
        CommitsInParts
    ),
    mutant!("ignores_versions", "transaction.conflict", "writes whatever version is there", IgnoresVersions),
    mutant!(
        "ignores_fences",
        "transaction.fence",
        "commits a unit with a delivery that it may not settle",
        IgnoresFences
    ),
    mutant!("scans_backwards", "transaction.scan", "scans from the last key to the first", ScansBackwards),
    mutant!("scans_by_prefix", "transaction.scan", "begins a scan anew where it should read on", ScansAnew),
    mutant!(
        "commits_halves",
        "transaction.survives_kill",
        "commits the messages of a unit before its settlements and values",
        CommitsHalves
    ),
];

#[derive(Debug)]
struct Accepts(ErrorKind);

#[async_trait]
impl Mutation for Accepts {
    async fn declare(&self, inner: &dyn Broker, topology: &Topology) -> Result<()> {
        match inner.declare(topology).await {
            Err(error) if error.kind() == self.0 => Ok(()),
            result => result,
        }
    }
}

#[derive(Debug)]
struct VerifyingCreates;

#[async_trait]
impl Mutation for VerifyingCreates {
    async fn declare(&self, inner: &dyn Broker, topology: &Topology) -> Result<()> {
        let verified = inner.declare(topology).await;
        let creating = Topology { mode: DeclareMode::Create, ..topology.clone() };
        inner.declare(&creating).await.and(verified)
    }
}

#[derive(Debug)]
struct DeclaresOnce(AtomicBool);

#[async_trait]
impl Mutation for DeclaresOnce {
    async fn declare(&self, inner: &dyn Broker, topology: &Topology) -> Result<()> {
        if self.0.swap(true, Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Incompatible, "declare", "exists already"));
        }
        inner.declare(topology).await
    }
}

#[derive(Debug)]
struct HidesTransactions;

#[async_trait]
impl Mutation for HidesTransactions {
    fn capabilities(&self, mut honest: Capabilities) -> Capabilities {
        honest.supports.transactions = false;
        honest
    }
}

#[derive(Debug)]
struct StaysOpen;

#[async_trait]
impl Mutation for StaysOpen {
    async fn close(&self, _inner: &dyn Broker) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct DeniesSubscribers;

#[async_trait]
impl Mutation for DeniesSubscribers {
    fn has_subscribers(&self, _inner: &dyn Broker, _topic: &TopicName) -> bool {
        false
    }
}

/// Knows whether a consumer has left.
#[derive(Debug)]
struct ForgetsSubscribers(AtomicBool);

#[async_trait]
impl Mutation for ForgetsSubscribers {
    async fn leave(&self, own: Own) -> Result<()> {
        self.0.store(true, Ordering::Relaxed);
        own.inner.close().await
    }

    fn has_subscribers(&self, inner: &dyn Broker, topic: &TopicName) -> bool {
        !self.0.load(Ordering::Relaxed) && inner.has_subscribers(topic)
    }
}

fn parts(unit: &Unit) -> [Unit; 3] {
    [
        Unit { publish: unit.publish.clone(), ..Unit::default() },
        Unit { put: unit.put.clone(), ..Unit::default() },
        Unit { settle: unit.settle.clone(), ..Unit::default() },
    ]
}

#[derive(Debug)]
struct CommitsInParts;

#[async_trait]
impl Mutation for CommitsInParts {
    async fn commit(&self, inner: &dyn Transactions, units: Vec<Unit>) -> Vec<Result<()>> {
        let mut results = Vec::new();
        for unit in units {
            let result = inner.commit(parts(&unit).into()).await.into_iter().collect::<Result<Vec<()>>>();
            results.push(result.map(drop));
        }
        results
    }
}

#[derive(Debug)]
struct IgnoresVersions;

#[async_trait]
impl Mutation for IgnoresVersions {
    async fn commit(&self, inner: &dyn Transactions, mut units: Vec<Unit>) -> Vec<Result<()>> {
        units.iter_mut().flat_map(|unit| &mut unit.put).for_each(|put| put.expect = Expect::Any);
        inner.commit(units).await
    }
}

#[derive(Debug)]
struct IgnoresFences;

#[async_trait]
impl Mutation for IgnoresFences {
    async fn commit(&self, inner: &dyn Transactions, units: Vec<Unit>) -> Vec<Result<()>> {
        let mut results = Vec::new();
        for unit in units {
            let result = inner.commit(vec![unit.clone()]).await.remove(0);
            let fenced = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fenced);
            let rest = Unit { settle: Vec::new(), ..unit };
            results.push(if fenced { inner.commit(vec![rest]).await.remove(0) } else { result });
        }
        results
    }
}

#[derive(Debug)]
struct CommitsHalves;

#[async_trait]
impl Mutation for CommitsHalves {
    async fn commit(&self, inner: &dyn Transactions, units: Vec<Unit>) -> Vec<Result<()>> {
        let mut results = Vec::new();
        for unit in units {
            let [publish, put, settle] = parts(&unit);
            inner.commit(vec![publish]).await;
            // Wide enough for a process to die in.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            let rest = Unit { settle: settle.settle, ..put };
            results.extend(inner.commit(vec![rest]).await);
        }
        results
    }
}

#[derive(Debug)]
struct ScansBackwards;

#[async_trait]
impl Mutation for ScansBackwards {
    async fn scan(&self, inner: &dyn Transactions, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        let mut entries = inner.scan(range, limit).await?;
        entries.reverse();
        Ok(entries)
    }
}

/// Takes the text up to the last slash for the beginning of a range.
#[derive(Debug)]
struct ScansAnew;

#[async_trait]
impl Mutation for ScansAnew {
    async fn scan(&self, inner: &dyn Transactions, mut range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        let slash = range.from.iter().rposition(|byte| *byte == b'/');
        range.from.truncate(slash.map_or(0, |at| at + 1));
        inner.scan(range, limit).await
    }
}
