use partitura_broker::{Error, ErrorKind, Expect, Put, Result, Space, Version};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::connection::Storage;
use super::schema::Row;
use crate::error;

/// A transaction. If it is dropped without a commit, it has no effect.
pub(crate) struct Batch<'s> {
    storage: &'s Storage,
    insert: CachedStatement<'s>,
    delete: CachedStatement<'s>,
    version: CachedStatement<'s>,
    add: CachedStatement<'s>,
    set: CachedStatement<'s>,
    remove: CachedStatement<'s>,
    open: bool,
}

impl Storage {
    /// Begins a transaction. `spaces` are those that will be written.
    pub(crate) fn batch(&mut self, spaces: impl Iterator<Item = Space>) -> Result<Batch<'_>> {
        for space in spaces {
            self.space(space)?;
        }
        Batch::begin(self).map_err(|error| error::from_sqlite("commit", error))
    }
}

impl<'s> Batch<'s> {
    fn begin(storage: &'s Storage) -> rusqlite::Result<Self> {
        let prepare = |sql| storage.connection.prepare_cached(sql);
        let batch = Batch {
            storage,
            insert: prepare(
                "INSERT INTO message (seq, queue, ready_at, delayed, size, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            delete: prepare("DELETE FROM message WHERE seq BETWEEN ?1 AND ?2")?,
            version: prepare("SELECT version FROM value WHERE space = ?1 AND key = ?2")?,
            add: prepare(
                "INSERT INTO value (space, key, version, value) VALUES (?1, ?2, 1, ?3) ON CONFLICT DO NOTHING",
            )?,
            set: prepare(
                "INSERT INTO value (space, key, version, value) VALUES (?1, ?2, 1, ?3)
                 ON CONFLICT DO UPDATE SET version = version + 1, value = excluded.value",
            )?,
            remove: prepare("DELETE FROM value WHERE space = ?1 AND key = ?2")?,
            open: true,
        };
        storage.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(batch)
    }

    pub(crate) fn insert(&mut self, row: &Row, body: &[u8]) -> Result<()> {
        let Row { seq, queue, ready_at, delayed, size } = *row;
        let moment = i64::try_from(ready_at).unwrap_or(i64::MAX);
        written(self.insert.execute(params![seq as i64, queue, moment, delayed, size, body])).map(drop)
    }

    /// Removes messages. Sorts them, so that consecutive ones are removed in one step.
    pub(crate) fn delete(&mut self, seqs: &mut [u64]) -> Result<()> {
        seqs.sort_unstable();
        for run in seqs.chunk_by(|one, next| one + 1 == *next) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                written(self.delete.execute([*first as i64, *last as i64]))?;
            }
        }
        Ok(())
    }

    /// Applies all writes, or none if an expectation does not hold. Expectations are about the values before all
    /// writes, so a key must not occur twice.
    pub(crate) fn put(&mut self, puts: &[Put]) -> Result<Result<(), Error>> {
        for put in puts {
            let holds = match put.expect {
                Expect::Any => true,
                // Adding a value checks this itself.
                Expect::Absent if put.value.is_some() => true,
                Expect::Absent => self.version(put)?.is_none(),
                Expect::Version(version) => self.version(put)? == Some(version),
            };
            if !holds {
                return Ok(Err(conflict(put)));
            }
        }
        let added = |put: &&Put| put.expect == Expect::Absent && put.value.is_some();
        for (at, put) in puts.iter().enumerate().filter(|(_, put)| added(put)) {
            if !self.add(put)? {
                for undo in puts[..at].iter().filter(added) {
                    self.remove(undo)?;
                }
                return Ok(Err(conflict(put)));
            }
        }
        for put in puts.iter().filter(|put| !added(put)) {
            match &put.value {
                Some(value) => self.set(put, value)?,
                None => self.remove(put)?,
            }
        }
        Ok(Ok(()))
    }

    fn space(&self, put: &Put) -> i64 {
        // `batch` knows every space that has values.
        self.storage.spaces.get(put.space).copied().unwrap_or_default()
    }

    fn version(&mut self, put: &Put) -> Result<Option<Version>> {
        let space = self.space(put);
        let version = self.version.query_row(params![space, &put.key[..]], |row| row.get::<_, i64>(0)).optional();
        written(version).map(|version| version.map(|version| version as u64))
    }

    fn add(&mut self, put: &Put) -> Result<bool> {
        let space = self.space(put);
        written(self.add.execute(params![space, &put.key[..], put.value.as_deref()])).map(|rows| rows == 1)
    }

    fn set(&mut self, put: &Put, value: &[u8]) -> Result<()> {
        let space = self.space(put);
        written(self.set.execute(params![space, &put.key[..], value])).map(drop)
    }

    fn remove(&mut self, put: &Put) -> Result<()> {
        let space = self.space(put);
        written(self.remove.execute(params![space, &put.key[..]])).map(drop)
    }

    /// The rest of the connection's statements, inside this transaction.
    pub(crate) fn connection(&self) -> &Connection {
        &self.storage.connection
    }

    /// Makes it durable: when this returns, the log is synced.
    pub(crate) fn commit(mut self) -> Result<()> {
        let commit = || self.storage.connection.prepare_cached("COMMIT")?.execute([]);
        commit().map_err(error::from_commit)?;
        self.open = false;
        Ok(())
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        // Some errors have rolled back already.
        if self.open && !self.storage.connection.is_autocommit() {
            let _ = self.storage.connection.execute_batch("ROLLBACK");
        }
    }
}

fn written<T>(result: rusqlite::Result<T>) -> Result<T> {
    result.map_err(|error| error::from_sqlite("commit", error))
}

fn conflict(put: &Put) -> Error {
    let message = format!("{:?} was expected and does not hold; load again", put.expect);
    Error::new(ErrorKind::Conflict, "commit", message).of(format_args!("{}/{}", put.space, put.key.escape_ascii()))
}
