//! Counts the calls of the store while the engine has no work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura::Store;
use partitura::contract::{Entry, Put, Result, ScanRange, Space, Timestamp, Version};

/// Long enough to remove the remains of a workload.
const SETTLE: Duration = Duration::from_secs(3);
/// The time for which calls are counted.
pub(crate) const REST: Duration = Duration::from_secs(10);

/// A store that counts its calls.
#[derive(Debug)]
pub(crate) struct Counted {
    store: Arc<dyn Store>,
    writes: AtomicU64,
    reads: AtomicU64,
    clock: AtomicU64,
}

/// Numbers of calls. Each is at most one statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) writes: u64,
    pub(crate) reads: u64,
    pub(crate) clock: u64,
}

impl Counted {
    pub(crate) fn over(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, writes: AtomicU64::new(0), reads: AtomicU64::new(0), clock: AtomicU64::new(0) })
    }

    fn calls(&self) -> Calls {
        let of = |calls: &AtomicU64| calls.load(Ordering::Relaxed);
        Calls { writes: of(&self.writes), reads: of(&self.reads), clock: of(&self.clock) }
    }

    /// Counts for a while without work.
    pub(crate) async fn at_rest(&self) -> Calls {
        tokio::time::sleep(SETTLE).await;
        let before = self.calls();
        tokio::time::sleep(REST).await;
        let after = self.calls();
        Calls {
            writes: after.writes - before.writes,
            reads: after.reads - before.reads,
            clock: after.clock - before.clock,
        }
    }
}

#[async_trait]
impl Store for Counted {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.store.write(groups).await
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.scan(range, limit).await
    }

    async fn now(&self) -> Result<Option<Timestamp>> {
        self.clock.fetch_add(1, Ordering::Relaxed);
        self.store.now().await
    }
}
