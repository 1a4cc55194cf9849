//! What is on the disk, and every statement that touches it. Nothing above knows that it is SQLite.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use partitura_broker::{Entry, Error, ErrorKind, Expect, Put, Result, ScanRange, Space, Version};
use rusqlite::{CachedStatement, Connection, OpenFlags, OptionalExtension, params};

use crate::failure;

/// The application id in the header of our files: "Ptra".
pub(crate) const APPLICATION_ID: u32 = 0x5074_7261;
/// The version of the format, in the header's user version.
pub(crate) const FORMAT: u32 = 1;

/// `message.seq` grows for ever, so that the table is written at its right edge and emptied from its left. `value` is a
/// table in the order of writing with an index beside it rather than a tree in the order of keys: appending rows of many
/// instances dirties one page instead of one each (docs/adr/0003-sqlite-for-the-embedded-broker.md).
const SCHEMA: &str = "
    CREATE TABLE topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
                        partitions INTEGER);
    CREATE TABLE subscription (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE subscription_topic (subscription INTEGER NOT NULL REFERENCES subscription,
                        topic INTEGER NOT NULL REFERENCES topic, first_queue INTEGER NOT NULL,
                        PRIMARY KEY (subscription, topic)) WITHOUT ROWID;
    CREATE TABLE message (seq INTEGER PRIMARY KEY, queue INTEGER NOT NULL, ready_at INTEGER NOT NULL,
                        delayed INTEGER NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL);
    CREATE TABLE space (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE value (id INTEGER PRIMARY KEY, space INTEGER NOT NULL, key BLOB NOT NULL,
                        version INTEGER NOT NULL, value BLOB NOT NULL);
    CREATE UNIQUE INDEX value_key ON value (space, key);";

/// A message as a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) seq: u64,
    pub(crate) queue: u32,
    /// When it joins its queue, in milliseconds: the moment of publishing, or the later one before which it must not come.
    pub(crate) ready_at: u64,
    /// Whether it had to wait when it was published.
    pub(crate) delayed: bool,
    /// Against credit, in bytes.
    pub(crate) size: u32,
}

thread_local! {
    /// How long the log was after this thread's last commit. SQLite calls a plain function, which has nowhere else to put it.
    static LOG_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// The one connection that writes.
#[derive(Debug)]
pub(crate) struct Storage {
    connection: Connection,
    spaces: HashMap<Space, i64>,
}

/// A connection that reads: what is committed when a read begins.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Connection,
}

impl Storage {
    pub(crate) fn memory() -> Result<Self> {
        let connection = Connection::open_in_memory().map_err(|e| failure::storage("open", e))?;
        connection.execute_batch(SCHEMA).map_err(|e| failure::storage("open", e))?;
        Ok(Self::over(connection))
    }

    /// Writes a new, empty file, all of it synced. Nothing else is beside it afterwards.
    pub(crate) fn create(path: &Path) -> Result<()> {
        let create = || {
            let connection = Connection::open(path)?;
            connection.execute_batch(&format!(
                "PRAGMA synchronous = FULL;
                 BEGIN;
                 PRAGMA application_id = {APPLICATION_ID};
                 PRAGMA user_version = {FORMAT};
                 {SCHEMA}
                 COMMIT;"
            ))
        };
        create().map_err(|error| failure::storage("open", error).of(path.display()))
    }

    pub(crate) fn open(path: &Path) -> Result<Self> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.execute_batch(
                "PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA wal_autocheckpoint = 0;
                 PRAGMA journal_size_limit = 67108864;
                 PRAGMA cache_size = -65536;
                 PRAGMA temp_store = MEMORY;",
            )?;
            connection.wal_hook(Some(|_, pages| {
                LOG_PAGES.set(u32::try_from(pages).unwrap_or_default());
                Ok(())
            }));
            Ok(connection)
        };
        open().map(Self::over).map_err(|error| failure::storage("open", error).of(path.display()))
    }

    fn over(connection: Connection) -> Self {
        connection.set_prepared_statement_cache_capacity(32);
        Self { connection, spaces: HashMap::new() }
    }

    /// The same connection, to read from: in memory there is no other.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        read(&self.connection)
    }

    /// How long the log is, as far as the calling thread has written it.
    pub(crate) fn log_pages(&self) -> u32 {
        LOG_PAGES.get()
    }

    /// Moves the log into the file. Gives how many of its pages could not be moved.
    pub(crate) fn checkpoint(&self) -> Result<u32> {
        checkpoint(&self.connection)
    }

    /// The number of a space, given to it when it is first written.
    fn space(&mut self, space: Space) -> Result<i64> {
        if let Some(id) = self.spaces.get(space) {
            return Ok(*id);
        }
        // Outside any batch, so that a batch that fails cannot take the number back.
        let query = "INSERT INTO space (name) VALUES (?1) ON CONFLICT DO UPDATE SET name = name RETURNING id";
        let id =
            self.connection.query_row(query, [space], |row| row.get(0)).map_err(|e| failure::storage("commit", e))?;
        self.spaces.insert(space, id);
        Ok(id)
    }

    /// Begins a transaction. `spaces` are those that will be written.
    pub(crate) fn batch(&mut self, spaces: impl Iterator<Item = Space>) -> Result<Batch<'_>> {
        for space in spaces {
            self.space(space)?;
        }
        let this = &*self;
        let begin = || {
            let prepare = |sql| this.connection.prepare_cached(sql);
            let batch = Batch {
                storage: this,
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
            this.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            Ok(batch)
        };
        begin().map_err(|error| failure::storage("commit", error))
    }
}

/// A transaction. Dropped without a commit, it never was.
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

impl Batch<'_> {
    pub(crate) fn insert(&mut self, row: &Row, body: &[u8]) -> Result<()> {
        let Row { seq, queue, ready_at, delayed, size } = *row;
        let moment = i64::try_from(ready_at).unwrap_or(i64::MAX);
        written(self.insert.execute(params![seq as i64, queue, moment, delayed, size, body])).map(drop)
    }

    /// Removes messages. Sorts them, since those that follow each other go in one step.
    pub(crate) fn delete(&mut self, seqs: &mut [u64]) -> Result<()> {
        seqs.sort_unstable();
        for run in seqs.chunk_by(|one, next| one + 1 == *next) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                written(self.delete.execute([*first as i64, *last as i64]))?;
            }
        }
        Ok(())
    }

    /// Applies all writes, or none where an expectation does not hold. Expectations are about the values before all of
    /// them, which is why a key must not occur twice.
    pub(crate) fn put(&mut self, puts: &[Put]) -> Result<Result<(), Error>> {
        for put in puts {
            let holds = match put.expect {
                Expect::Any => true,
                // Adding a value finds out by itself.
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
        // `batch` was told of every space; one it does not know of has no values.
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
        commit().map_err(failure::commit)?;
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
    result.map_err(|error| failure::storage("commit", error))
}

fn conflict(put: &Put) -> Error {
    let message = format!("{:?} was expected and does not hold; load again", put.expect);
    Error::new(ErrorKind::Conflict, "commit", message).of(format_args!("{}/{}", put.space, put.key.escape_ascii()))
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| failure::storage("open", error))?;
        connection.set_prepared_statement_cache_capacity(8);
        Ok(Self { connection })
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        read(&self.connection)
    }
}

/// A connection for moving the log into the file beside the writer.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    connection: Connection,
}

impl Checkpoints {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")?;
            Ok(Self { connection })
        };
        open().map_err(|error| failure::storage("open", error).of(path.display()))
    }

    pub(crate) fn checkpoint(&self) -> Result<u32> {
        checkpoint(&self.connection)
    }
}

fn checkpoint(connection: &Connection) -> Result<u32> {
    let counts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let counts = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], counts);
    let (log, moved) = counts.map_err(|error| failure::storage("checkpoint", error))?;
    Ok(u32::try_from(log - moved).unwrap_or_default())
}

/// All messages, in the order of their sequence.
pub(crate) fn messages(connection: &Connection, mut each: impl FnMut(Row)) -> Result<()> {
    let mut query = || {
        let mut select = connection.prepare("SELECT seq, queue, ready_at, delayed, size FROM message ORDER BY seq")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            each(Row {
                seq: row.get::<_, i64>(0)? as u64,
                queue: row.get(1)?,
                ready_at: row.get::<_, i64>(2)? as u64,
                delayed: row.get(3)?,
                size: row.get(4)?,
            });
        }
        Ok(())
    };
    query().map_err(|error| failure::storage("open", error))
}

/// The stored form of these messages, in the order asked for.
pub(crate) fn bodies(connection: &Connection, seqs: &[u64]) -> Result<Vec<Vec<u8>>> {
    let read = |error| failure::storage("read", error);
    let mut select = connection.prepare_cached("SELECT body FROM message WHERE seq = ?1").map_err(read)?;
    let mut body = |seq: &u64| {
        let body = select.query_row([*seq as i64], |row| row.get(0)).optional().map_err(read)?;
        body.ok_or_else(|| failure::damaged_message(*seq))
    };
    seqs.iter().map(&mut body).collect()
}

pub(crate) fn get(connection: &Connection, space: Space, key: &[u8]) -> Result<Option<(Version, Bytes)>> {
    let query = || {
        let sql = "SELECT version, value FROM value WHERE space = (SELECT id FROM space WHERE name = ?1) AND key = ?2";
        let mut select = connection.prepare_cached(sql)?;
        let entry = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, Vec<u8>>(1)?.into()));
        select.query_row(params![space, key], entry).optional()
    };
    query().map_err(|error| failure::storage("get", error))
}

pub(crate) fn scan(connection: &Connection, range: &ScanRange, limit: usize) -> Result<Vec<Entry>> {
    let query = || {
        let end = if range.to.is_some() { "AND key < ?4" } else { "AND ?4 IS NULL" };
        let mut select = connection.prepare_cached(&format!(
            "SELECT key, version, value FROM value
             WHERE space = (SELECT id FROM space WHERE name = ?1) AND key >= ?2 {end} ORDER BY key LIMIT ?3"
        ))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let entries = select.query_map(params![range.space, &range.from[..], limit, range.to.as_deref()], |row| {
            Ok(Entry {
                key: row.get::<_, Vec<u8>>(0)?.into(),
                version: row.get::<_, i64>(1)? as u64,
                value: row.get::<_, Vec<u8>>(2)?.into(),
            })
        })?;
        entries.collect::<rusqlite::Result<Vec<Entry>>>()
    };
    query().map_err(|error| failure::storage("scan", error))
}
