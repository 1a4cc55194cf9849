use std::path::Path;

use bytes::Bytes;
use partitura_broker::{Entry, Result, ScanRange, Space, Version};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::schema::Row;
use crate::error;

/// A connection that reads the state that is committed when the read begins.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Connection,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| error::from_sqlite("open", error))?;
        connection.set_prepared_statement_cache_capacity(8);
        Ok(Self { connection })
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        read(&self.connection)
    }
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
    query().map_err(|error| error::from_sqlite("open", error))
}

/// The stored form of these messages, in the requested order; `None` for a message that is gone.
pub(crate) fn bodies(connection: &Connection, seqs: &[u64]) -> Result<Vec<Option<Vec<u8>>>> {
    let read = || {
        let mut select = connection.prepare_cached("SELECT body FROM message WHERE seq = ?1")?;
        seqs.iter()
            .map(|seq| select.query_row([*seq as i64], |row| row.get(0)).optional())
            .collect::<rusqlite::Result<_>>()
    };
    read().map_err(|error| error::from_sqlite("read", error))
}

pub(crate) fn get(connection: &Connection, space: Space, key: &[u8]) -> Result<Option<(Version, Bytes)>> {
    let query = || {
        let sql = "SELECT version, value FROM value WHERE space = (SELECT id FROM space WHERE name = ?1) AND key = ?2";
        let mut select = connection.prepare_cached(sql)?;
        let entry = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, Vec<u8>>(1)?.into()));
        select.query_row(params![space, key], entry).optional()
    };
    query().map_err(|error| error::from_sqlite("get", error))
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
    query().map_err(|error| error::from_sqlite("scan", error))
}
