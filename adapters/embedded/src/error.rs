//! Maps errors of SQLite and of the system to the contract's.

use std::path::Path;

use partitura_broker::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// Classifies an error of SQLite met while doing `operation`.
pub(crate) fn from_sqlite(operation: &'static str, error: rusqlite::Error) -> Error {
    let (kind, message) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            (ErrorKind::Corrupt, "the file is damaged; restore it from a backup")
        }
        Some(ErrorCode::DiskFull) => (ErrorKind::Storage, "the disk is full; nothing was stored, free some space"),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            (ErrorKind::Storage, "the file cannot be written; check its permissions and those of its directory")
        }
        None if is_foreign_value(&error) => (ErrorKind::Corrupt, "the file is damaged; restore it from a backup"),
        _ => (ErrorKind::Storage, "the storage failed; nothing was stored"),
    };
    Error::new(kind, operation, message).because(error)
}

/// Whether a column holds a value that this adapter never wrote.
fn is_foreign_value(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..))
}

/// Classifies an error of a commit: if the system failed while it synced the log, the outcome is unknown.
pub(crate) fn from_commit(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => {
            Error::new(ErrorKind::OutcomeUnknown, "commit", "writing to the disk failed").because(error)
        }
        _ => from_sqlite("commit", error),
    }
}

/// An error of the file system about `path`.
pub(crate) fn from_io(message: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Storage, "open", message).of(path.display()).because(error)
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the broker was closed")
}

pub(crate) fn damaged_message(seq: u64) -> Error {
    let message = format!("message {seq} is missing or damaged; restore the file from a backup");
    Error::new(ErrorKind::Corrupt, "read", message)
}
