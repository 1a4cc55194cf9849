use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{AckToken, Message, Result};

/// Settling, publishing and versioned key-values in one commit: an optional capability of a broker.
///
/// The embedded broker has it; a broker over a database could. The engine uses it through this trait and never learns
/// which adapter it runs on.
#[async_trait]
pub trait Transactions: Debug + Send + Sync {
    /// Commits units, each of them entirely or not at all, independently of the others, one result each in order.
    ///
    /// **Contract.** When a unit's result is `Ok`, its settlements, messages and writes are stored together, as
    /// durably as [`Capabilities::durability`](crate::Capabilities::durability) says. Units given in one call, and
    /// those of concurrent calls, share one sync. Units are applied in the order of their calls' first polls, and a
    /// unit sees the writes of those before it.
    ///
    /// # Errors
    /// Per unit. [`Conflict`](crate::ErrorKind::Conflict): an expectation of a [`Put`] did not hold.
    /// [`Fenced`](crate::ErrorKind::Fenced): a token belongs to a delivery that this consumer no longer owns, or
    /// that is settled already. Those of publishing, as in [`Producer::publish`](crate::Producer::publish).
    /// [`Storage`](crate::ErrorKind::Storage): nothing of the whole commit was stored.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown; each unit is still stored entirely or not at all.
    ///
    /// Conformance: `transaction.atomic`, `transaction.fence`, `transaction.conflict`, `transaction.survives_kill`.
    async fn commit(&self, units: Vec<Unit>) -> Vec<Result<()>>;

    /// Reads one value, with its version. Sees every commit that was answered before.
    ///
    /// # Errors
    /// [`Storage`](crate::ErrorKind::Storage), [`Corrupt`](crate::ErrorKind::Corrupt).
    ///
    /// # Cancel safety
    /// Safe.
    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>>;

    /// Reads up to `limit` entries of a range, in the order of their keys' bytes.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Safe.
    ///
    /// Conformance: `transaction.scan`.
    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>>;

    /// Reads up to `limit` entries of each of these ranges, as [`scan`](Self::scan) does, one result each in order.
    /// The ranges may be read at different moments.
    ///
    /// A reader of a hundred short ranges must not wait a hundred times. A broker for which each read has a cost of
    /// its own implements this.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Safe.
    ///
    /// Conformance: `transaction.scan`.
    async fn scan_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<Vec<Entry>>> {
        let mut found = Vec::with_capacity(ranges.len());
        for range in ranges {
            found.push(self.scan(range, limit).await?);
        }
        Ok(found)
    }

    /// Counts the entries of each of these ranges, up to `limit` of each, one result each in order. A broker that can
    /// count without reading the values implements this.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Safe.
    ///
    /// Conformance: `transaction.scan`.
    async fn count_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<usize>> {
        Ok(self.scan_each(ranges, limit).await?.iter().map(Vec::len).collect())
    }
}

/// The changes that are committed together.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// Deliveries that are done.
    pub settle: Vec<AckToken>,
    /// Messages to publish, in this order.
    pub publish: Vec<Message>,
    /// Values to write, each key at most once.
    pub put: Vec<Put>,
}

/// A named set of keys. Names are fixed in the code that uses them.
pub type Space = &'static str;

/// Counts the writes of a key, from 1.
pub type Version = u64;

/// One conditional write.
#[derive(Debug, Clone)]
pub struct Put {
    /// The set of keys.
    pub space: Space,
    /// The key.
    pub key: Bytes,
    /// The condition for the unit to be committed.
    pub expect: Expect,
    /// The new value; `None` removes the key.
    pub value: Option<Bytes>,
}

/// The condition on a key before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// It has no value.
    Absent,
    /// It has this version.
    Version(Version),
}

/// The keys of a space from `from` (inclusive) up to `to` (exclusive; `None`: the end).
#[derive(Debug, Clone)]
pub struct ScanRange {
    /// The set of keys.
    pub space: Space,
    /// The first key.
    pub from: Bytes,
    /// The key after the last.
    pub to: Option<Bytes>,
}

impl ScanRange {
    /// All keys that begin with `prefix`.
    pub fn prefix(space: Space, prefix: impl Into<Bytes>) -> Self {
        let from: Bytes = prefix.into();
        let mut to = from.to_vec();
        while to.last() == Some(&u8::MAX) {
            to.pop();
        }
        let to = to.last_mut().map(|last| *last += 1).map(|()| to.clone()).map(Bytes::from);
        Self { space, from, to }
    }

    /// The same range without the keys up to `key`, to read on behind it.
    #[must_use]
    pub fn after(mut self, key: &[u8]) -> Self {
        self.from = [key, &[0]].concat().into();
        self
    }
}

/// A key, its version and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// How often it was written.
    pub version: Version,
    /// The value.
    pub value: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_exactly_the_keys_that_begin_with_it() {
        let range = ScanRange::prefix("s", &b"ab"[..]);
        assert_eq!((range.from.as_ref(), range.to.as_deref()), (&b"ab"[..], Some(&b"ac"[..])));
        assert_eq!(ScanRange::prefix("s", vec![b'a', 0xff]).to.as_deref(), Some(&b"b"[..]));
        assert_eq!(ScanRange::prefix("s", vec![0xff, 0xff]).to, None);
        assert_eq!(ScanRange::prefix("s", Bytes::new()).to, None);
        assert_eq!(range.after(b"ab").from.as_ref(), b"ab\0");
    }
}
