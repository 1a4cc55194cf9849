//! Keys of one case, and what it asks the store.

use std::sync::Arc;

use bytes::Bytes;
use partitura_broker::{Entry, ErrorKind, Expect, Put, ScanRange, Space, Version};
use partitura_engine::{Ids, Store, SystemIds};

/// The set of keys that cases use, and another one.
pub(super) const SPACE: Space = "suite";
pub(super) const OTHER: Space = "suite2";

/// A store, and a prefix of keys that nobody else uses.
pub(super) struct Ground {
    pub(super) store: Arc<dyn Store>,
    prefix: Vec<u8>,
}

impl Ground {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, prefix: format!("{}/", SystemIds.fresh()).into_bytes() }
    }

    /// The whole key.
    pub(super) fn key(&self, key: impl AsRef<[u8]>) -> Bytes {
        [&self.prefix, key.as_ref()].concat().into()
    }

    /// The key without the prefix.
    pub(super) fn short(&self, key: &[u8]) -> Vec<u8> {
        key.strip_prefix(&*self.prefix).unwrap_or(key).to_vec()
    }

    pub(super) fn put(&self, key: impl AsRef<[u8]>, expect: Expect, value: Option<&[u8]>) -> Put {
        Put { space: SPACE, key: self.key(key), expect, value: value.map(Bytes::copy_from_slice) }
    }

    /// Writes one group.
    pub(super) async fn write(&self, group: Vec<Put>) -> Result<(), ErrorKind> {
        self.groups(vec![group]).await.pop().unwrap_or(Err(ErrorKind::Corrupt))
    }

    /// Writes several groups in one call. There has to be an answer for each.
    pub(super) async fn groups(&self, groups: Vec<Vec<Put>>) -> Vec<Result<(), ErrorKind>> {
        let answers = self.store.write(groups).await;
        answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect()
    }

    /// Writes a value that has to be taken.
    pub(super) async fn set(&self, key: impl AsRef<[u8]>, value: &[u8]) -> Result<(), String> {
        let written = self.write(vec![self.put(key, Expect::Any, Some(value))]).await;
        written.map_err(|kind| format!("a write without a condition is refused: {kind:?}"))
    }

    pub(super) async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<(Version, Vec<u8>)>, String> {
        let found = self.store.get(SPACE, self.key(key)).await.map_err(|error| format!("get: {error}"))?;
        Ok(found.map(|(version, value)| (version, value.to_vec())))
    }

    pub(super) async fn value(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, String> {
        Ok(self.get(key).await?.map(|(_, value)| value))
    }

    /// All keys of the case that begin like this.
    pub(super) fn range(&self, prefix: impl AsRef<[u8]>) -> ScanRange {
        ScanRange::prefix(SPACE, self.key(prefix))
    }

    pub(super) async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>, String> {
        self.store.scan(range, limit).await.map_err(|error| format!("scan: {error}"))
    }

    /// The keys that a scan gives, without the prefix.
    pub(super) async fn keys(&self, range: ScanRange, limit: usize) -> Result<Vec<Vec<u8>>, String> {
        Ok(self.scan(range, limit).await?.iter().map(|entry| self.short(&entry.key)).collect())
    }
}

/// Fails with a message unless both are the same.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: found {found:?}, expected {expected:?}"))
}
