use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;

use partitura_broker::{Result, Space};
use rusqlite::{Connection, OpenFlags};

use super::schema::{APPLICATION_ID, FORMAT, SCHEMA};
use crate::error;

thread_local! {
    /// The length of the log after this thread's last commit. SQLite calls a plain function, which can store it only
    /// here.
    static LOG_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// The one connection that writes.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(super) connection: Connection,
    pub(super) spaces: HashMap<Space, i64>,
}

impl Storage {
    pub(crate) fn memory() -> Result<Self> {
        let connection = Connection::open_in_memory().map_err(|e| error::from_sqlite("open", e))?;
        connection.execute_batch(SCHEMA).map_err(|e| error::from_sqlite("open", e))?;
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
        create().map_err(|error| error::from_sqlite("open", error).of(path.display()))
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
        open().map(Self::over).map_err(|error| error::from_sqlite("open", error).of(path.display()))
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
    pub(super) fn space(&mut self, space: Space) -> Result<i64> {
        if let Some(id) = self.spaces.get(space) {
            return Ok(*id);
        }
        // Outside any batch, so that a batch that fails cannot take the number back.
        let query = "INSERT INTO space (name) VALUES (?1) ON CONFLICT DO UPDATE SET name = name RETURNING id";
        let id =
            self.connection.query_row(query, [space], |row| row.get(0)).map_err(|e| error::from_sqlite("commit", e))?;
        self.spaces.insert(space, id);
        Ok(id)
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
        open().map_err(|error| error::from_sqlite("open", error).of(path.display()))
    }

    pub(crate) fn checkpoint(&self) -> Result<u32> {
        checkpoint(&self.connection)
    }
}

fn checkpoint(connection: &Connection) -> Result<u32> {
    let counts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let counts = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], counts);
    let (log, moved) = counts.map_err(|error| error::from_sqlite("checkpoint", error))?;
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
