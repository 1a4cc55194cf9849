use std::path::Path;

use bytes::Bytes;
use partitura_broker::{Entry, Result, ScanRange, Space, Version};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, params};

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

/// The condition for a row to be in a range. The numbers are those of [`bounds`].
fn within(range: &ScanRange) -> String {
    let end = if range.to.is_some() { "AND key < ?4" } else { "AND ?4 IS NULL" };
    format!("space = (SELECT id FROM space WHERE name = ?1) AND key >= ?2 {end}")
}

fn bounds(range: &ScanRange, limit: usize) -> impl Params {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    (range.space, range.from.to_vec(), limit, range.to.as_ref().map(|to| to.to_vec()))
}

pub(crate) fn scan(connection: &Connection, range: &ScanRange, limit: usize) -> Result<Vec<Entry>> {
    let query = || {
        let within = within(range);
        let select = format!("SELECT key, version, value FROM value WHERE {within} ORDER BY key LIMIT ?3");
        let mut select = connection.prepare_cached(&select)?;
        let entries = select.query_map(bounds(range, limit), |row| {
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

/// Counts up to `limit` rows of a range, in the index alone: no value is read.
pub(crate) fn count(connection: &Connection, range: &ScanRange, limit: usize) -> Result<usize> {
    let query = || {
        let mut select = connection.prepare_cached(&counting(range))?;
        select.query_row(bounds(range, limit), |row| row.get::<_, i64>(0))
    };
    let counted = query().map_err(|error| error::from_sqlite("count", error))?;
    Ok(usize::try_from(counted).unwrap_or(0))
}

fn counting(range: &ScanRange) -> String {
    format!("SELECT count(*) FROM (SELECT 1 FROM value WHERE {} LIMIT ?3)", within(range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Storage;

    #[test]
    fn counting_reads_the_index_and_no_value() {
        let storage = Storage::memory().unwrap();
        let ranges = [ScanRange::prefix("s", "a"), ScanRange::prefix("s", "")];
        for range in ranges {
            let plan = storage.read(|connection| {
                let explain = format!("EXPLAIN QUERY PLAN {}", counting(&range));
                let mut explain = connection.prepare(&explain).unwrap();
                let steps = explain.query_map(bounds(&range, 10), |row| row.get::<_, String>(3)).unwrap();
                Ok(steps.collect::<rusqlite::Result<Vec<String>>>().unwrap())
            });
            let plan = plan.unwrap();
            let is_covered = |step: &String| step.contains("SEARCH value USING COVERING INDEX value_key");
            assert!(plan.iter().any(is_covered), "{range:?}: {plan:?}");
        }
    }
}
