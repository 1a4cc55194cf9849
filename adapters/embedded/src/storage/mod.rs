//! The data on the disk, and all statements for it.

mod batch;
mod read;

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;

use partitura_broker::{Result, Space};
use rusqlite::{Connection, OpenFlags};

use crate::failure;
pub(crate) use batch::Batch;
pub(crate) use read::{Reader, bodies, get, messages, scan};

/// The application id in the header of our files: "Ptra".
pub(crate) const APPLICATION_ID: u32 = 0x5074_7261;
/// The version of the format, in the header's user version.
pub(crate) const FORMAT: u32 = 1;

/// `message.seq` grows for ever, so that the table is written at its end and emptied from its beginning. `value` is a
/// table in the order of writing with an index beside it rather than a tree in the order of keys: appending rows of
/// many instances dirties one page instead of one each (docs/adr/0003-sqlite-for-the-embedded-broker.md).
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
    /// The time at which it joins its queue, in milliseconds: that of publishing, or the later one before which it must
    /// not come.
    pub(crate) ready_at: u64,
    /// Whether it had to wait when it was published.
    pub(crate) delayed: bool,
    /// The size that counts against credit, in bytes.
    pub(crate) size: u32,
}

thread_local! {
    /// The length of the log after this thread's last commit. SQLite calls a plain function, which can store it only
    /// here.
    static LOG_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// The one connection that writes.
#[derive(Debug)]
pub(crate) struct Storage {
    connection: Connection,
    spaces: HashMap<Space, i64>,
}

impl Storage {
    pub(crate) fn memory() -> Result<Self> {
        let connection = Connection::open_in_memory().map_err(|e| failure::storage("open", e))?;
        connection.execute_batch(SCHEMA).map_err(|e| failure::storage("open", e))?;
        Ok(Self::over(connection))
    }

    /// Writes a new, empty file, all of it synced. It leaves no other file beside it.
    ///
    /// The file has a log from the beginning. Adding the log at the first opening would be a transaction with a
    /// rollback journal. If that is interrupted it can be undone only by writing, before the file was checked.
    pub(crate) fn create(path: &Path) -> Result<()> {
        let create = || {
            let connection = Connection::open(path)?;
            connection.execute_batch(&format!(
                "PRAGMA synchronous = FULL;
                 PRAGMA journal_mode = WAL;
                 BEGIN;
                 PRAGMA application_id = {APPLICATION_ID};
                 PRAGMA user_version = {FORMAT};
                 {SCHEMA}
                 COMMIT;"
            ))?;
            connection.close().map_err(|(_, error)| error)
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
                 PRAGMA journal_size_limit = 134217728;
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

    /// The length of the log, as written by the calling thread.
    pub(crate) fn log_pages(&self) -> u32 {
        LOG_PAGES.get()
    }

    /// Moves the log into the file. Returns the number of pages that could not be moved.
    pub(crate) fn checkpoint(&self) -> Result<u32> {
        checkpoint(&self.connection)
    }

    /// The number of a space, which it gets when it is first written.
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
        Batch::begin(self).map_err(|error| failure::storage("commit", error))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_has_a_log_and_nothing_else_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new");
        Storage::create(&path).unwrap();
        // The versions of the format for writing and reading: 2 is with a log, 1 with a rollback journal.
        assert_eq!(std::fs::read(&path).unwrap()[18..20], [2, 2]);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// The promise of a confirm depends on these two settings, which cannot be seen from outside.
    #[test]
    fn every_commit_and_every_checkpoint_is_synced() {
        const FULL: i64 = 2;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new");
        Storage::create(&path).unwrap();
        let synchronous =
            |connection: &Connection| connection.pragma_query_value(None, "synchronous", |row| row.get(0));
        assert_eq!(synchronous(&Storage::open(&path).unwrap().connection), Ok(FULL));
        assert_eq!(synchronous(&Checkpoints::open(&path).unwrap().connection), Ok(FULL));
    }
}
