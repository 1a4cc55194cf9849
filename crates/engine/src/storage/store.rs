use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use partitura_broker::{Broker, Entry, Error, ErrorKind, Put, Result, ScanRange, Space, Timestamp, Unit, Version};

/// Where the state of workflows is kept when the broker cannot keep it itself: versioned key-values, nothing more.
///
/// The engine's fence is here: a turn's history is written under a key that must be absent, so that of two owners who
/// overlap only one commits.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// Writes groups of values, each group entirely or not at all, independently of the others, durably when answered.
    /// Groups of concurrent calls may share one commit.
    ///
    /// # Errors
    /// Per group. [`Conflict`](ErrorKind::Conflict): an expectation did not hold; nothing of the group was written.
    /// [`Storage`](ErrorKind::Storage), [`Disconnected`](ErrorKind::Disconnected),
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown; each group is still written entirely or not at all.
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>>;

    /// Reads one value. Sees every write that was answered before.
    ///
    /// # Errors
    /// Those of the storage or the connection to it.
    ///
    /// # Cancel safety
    /// Safe.
    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>>;

    /// Reads up to `limit` values of a range, in the order of their keys' bytes.
    ///
    /// # Errors
    /// Those of the storage or the connection to it.
    ///
    /// # Cancel safety
    /// Safe.
    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>>;

    /// How many values a range has; up to `limit` are counted.
    ///
    /// # Errors
    /// As for [`scan`](Self::scan).
    ///
    /// # Cancel safety
    /// Safe.
    async fn count(&self, range: ScanRange, limit: usize) -> Result<usize> {
        Ok(self.scan(range, limit).await?.len())
    }

    /// Reads up to `limit` values of each of these ranges, as [`scan`](Self::scan) does, one result each in order. The
    /// ranges may be read at different moments.
    ///
    /// A list of instances is merged from a range for each workflow and each status: a store behind a connection reads
    /// all of them in one request.
    ///
    /// # Errors
    /// As for [`scan`](Self::scan).
    ///
    /// # Cancel safety
    /// Safe.
    async fn scan_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<Vec<Entry>>> {
        try_join_all(ranges.into_iter().map(|range| self.scan(range, limit))).await
    }

    /// How many values each of these ranges has, as [`count`](Self::count) says it, one result each in order.
    ///
    /// # Errors
    /// As for [`scan`](Self::scan).
    ///
    /// # Cancel safety
    /// Safe.
    async fn count_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<usize>> {
        try_join_all(ranges.into_iter().map(|range| self.count(range, limit))).await
    }

    /// Reads the clock of the server that keeps the values: the one by which all workers go. `None`: there is no such
    /// server, and the clock of the worker counts.
    ///
    /// Read several times when a worker starts, and once a minute. The shorter it takes, the better is the estimate.
    ///
    /// # Errors
    /// Those of the connection.
    ///
    /// # Cancel safety
    /// Safe.
    async fn now(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }
}

/// The key-values of a broker that has [transactions](Broker::transactions), as a store for another broker: an
/// embedded file beside NATS, say.
#[derive(Debug, Clone)]
pub struct BrokerStore(Arc<dyn Broker>);

impl BrokerStore {
    /// Uses the key-values of `broker`.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) when it has no transactions.
    pub fn new(broker: Arc<dyn Broker>) -> Result<Self> {
        match broker.transactions() {
            Some(_) => Ok(Self(broker)),
            None => Err(without_transactions(&*broker)),
        }
    }
}

fn without_transactions(broker: &dyn Broker) -> Error {
    let message = "it has no transactions, so it cannot keep state; give the engine a store";
    Error::new(ErrorKind::Unsupported, "store", message).of(&broker.capabilities().broker)
}

#[async_trait]
impl Store for BrokerStore {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        let units: Vec<_> = groups.into_iter().map(|put| Unit { put, ..Unit::default() }).collect();
        match self.0.transactions() {
            Some(transactions) => transactions.commit(units).await,
            None => units.iter().map(|_| Err(without_transactions(&*self.0))).collect(),
        }
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        let transactions = self.0.transactions().ok_or_else(|| without_transactions(&*self.0))?;
        transactions.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        let transactions = self.0.transactions().ok_or_else(|| without_transactions(&*self.0))?;
        transactions.scan(range, limit).await
    }

    async fn count(&self, range: ScanRange, limit: usize) -> Result<usize> {
        Ok(self.count_each(vec![range], limit).await?.pop().unwrap_or_default())
    }

    async fn scan_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<Vec<Entry>>> {
        let transactions = self.0.transactions().ok_or_else(|| without_transactions(&*self.0))?;
        transactions.scan_each(ranges, limit).await
    }

    async fn count_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<usize>> {
        let transactions = self.0.transactions().ok_or_else(|| without_transactions(&*self.0))?;
        transactions.count_each(ranges, limit).await
    }
}
