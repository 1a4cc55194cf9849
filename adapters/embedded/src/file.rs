//! The directory, its lock, and the checks before a file is opened for writing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind as IoErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result, Timestamp};
use rusqlite::{Connection, OpenFlags};

use crate::error::{self, from_io};
use crate::storage::{APPLICATION_ID, FORMAT, Storage};

/// A directory that is ours while this value exists.
#[derive(Debug)]
pub(crate) struct Directory {
    file: PathBuf,
    /// The system gives the lock back when this is closed, or the process ends in any way.
    _lock: File,
}

impl Directory {
    /// Creates the directory and the file if missing, takes the lock, and checks an existing file. Does not touch a
    /// file that it refuses.
    pub(crate) fn open(directory: &Path, now: Timestamp, check_up_to: u64) -> Result<Self> {
        if !directory.is_dir() {
            fs::create_dir_all(directory).map_err(|e| from_io("the directory cannot be created", directory, e))?;
            directory.parent().map_or(Ok(()), sync)?;
        }
        let lock = lock(&directory.join("partitura.lock"), now)?;
        let file = directory.join("partitura.db");
        match fs::metadata(&file) {
            Ok(_) => inspect(&file, check_up_to)?,
            Err(error) if error.kind() == IoErrorKind::NotFound => create(directory, &file)?,
            Err(error) => return Err(from_io("the file cannot be read", &file, error)),
        }
        Ok(Self { file, _lock: lock })
    }

    /// The path of the data.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

fn lock(path: &Path, now: Timestamp) -> Result<File> {
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file =
        open().map_err(|e| from_io("the lock file cannot be written; check the directory's permissions", path, e))?;
    let mut owner = String::new();
    // A handle of this process that was just dropped may still write accepted messages: wait a moment.
    for wait in [0, 1, 2, 5, 10, 20, 50, 100, 0] {
        std::thread::sleep(Duration::from_millis(wait));
        match file.try_lock() {
            Ok(()) => {
                let written = write_owner(&mut file, now);
                return written.map(|()| file).map_err(|e| from_io("the lock file cannot be written", path, e));
            }
            Err(TryLockError::Error(error)) => return Err(from_io("the lock file cannot be locked", path, error)),
            Err(TryLockError::WouldBlock) => owner = read_owner(&mut file),
        }
        if !owner.starts_with(&process()) {
            break;
        }
    }
    let owner = if owner.is_empty() { "a process that has not written its name" } else { owner.trim() };
    let message =
        format!("in use by {owner}; stop it, or open another directory (one process at a time owns the file)");
    Err(Error::new(ErrorKind::Busy, "open", message).of(path.display()))
}

fn process() -> String {
    format!("process {} ", std::process::id())
}

fn write_owner(file: &mut File, now: Timestamp) -> std::io::Result<()> {
    let program = std::env::current_exe().unwrap_or_default();
    let owner = format!("{}({}), since {}\n", process(), program.display(), date(now));
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(owner.as_bytes())
}

/// As people read it: `2026-11-29 13:10:21 UTC`.
fn date(moment: Timestamp) -> String {
    let text = moment.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {} UTC", time.split('.').next().unwrap_or_default())
}

fn read_owner(file: &mut File) -> String {
    let mut owner = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(4_096).read_to_string(&mut owner));
    read.map(|_| owner).unwrap_or_default()
}

/// Creates the file completely under another name first: half a file never has its final name.
fn create(directory: &Path, file: &Path) -> Result<()> {
    let log = file.with_extension("db-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        let message = "the file is gone, but its log is there; restore the file, or remove the log to begin anew";
        return Err(Error::new(ErrorKind::Corrupt, "open", message).of(log.display()));
    }
    let new = file.with_extension("db-new");
    // The remains of an interrupted creation, with its logs: they must not be used for this one.
    for remainder in ["db-new", "db-new-journal", "db-new-wal", "db-new-shm"].map(|end| file.with_extension(end)) {
        match fs::remove_file(&remainder) {
            Err(error) if error.kind() != IoErrorKind::NotFound => {
                return Err(from_io("a remainder cannot be removed", &remainder, error));
            }
            _ => {}
        }
    }
    Storage::create(&new)?;
    fs::rename(&new, file).map_err(|e| from_io("the file cannot be created", file, e))?;
    sync(directory)
}

/// Without this a power failure could remove the name of the new file, and with it all stored data.
fn sync(directory: &Path) -> Result<()> {
    if !cfg!(unix) {
        // Elsewhere a directory cannot be opened, and need not be.
        return Ok(());
    }
    // The parent of a relative path may be empty, which is the current directory.
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(|e| from_io("the directory cannot be synced", directory, e))
}

/// Refuses files that are not ours, are newer than this version, or are damaged, by reading only.
fn inspect(path: &Path, check_up_to: u64) -> Result<()> {
    let refuse = |kind, message: String| Err(Error::new(kind, "open", message).of(path.display()));
    let corrupt =
        |what: &str| refuse(ErrorKind::Corrupt, format!("{what}; restore it from a backup (it was not touched)"));
    let mut file = File::open(path).map_err(|e| from_io("the file cannot be read", path, e))?;
    let length = file.metadata().map_err(|e| from_io("the file cannot be read", path, e))?.len();
    let mut header = [0; 100];
    if let Err(error) = file.read_exact(&mut header) {
        return match error.kind() {
            IoErrorKind::UnexpectedEof if length == 0 => corrupt("the file is empty"),
            IoErrorKind::UnexpectedEof => {
                refuse(ErrorKind::Incompatible, "not a file of Partitura's; not touched".into())
            }
            _ => Err(from_io("the file cannot be read", path, error)),
        };
    }
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[..16] != *b"SQLite format 3\0" || word(68) != APPLICATION_ID {
        return refuse(
            ErrorKind::Incompatible,
            "not a file of Partitura's; choose another directory (not touched)".into(),
        );
    }
    if word(60) > FORMAT {
        let found = word(60);
        let message = format!("written by a newer Partitura: format {found}, this one reads up to {FORMAT}; update it");
        return refuse(ErrorKind::Incompatible, message);
    }
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    // A crash during a checkpoint leaves pages that only the log has. Without a log the header has the right length.
    let log = fs::metadata(path.with_extension("db-wal")).map_or(0, |log| log.len());
    if log == 0 && length < page * u64::from(word(28)) {
        return corrupt("the file is shorter than its header says");
    }
    if length <= check_up_to && !quick_check(path).map_err(|e| error::from_sqlite("open", e).of(path.display()))? {
        return corrupt("the file is damaged");
    }
    Ok(())
}

fn quick_check(path: &Path) -> rusqlite::Result<bool> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.query_row("PRAGMA quick_check(1)", [], |row| Ok(row.get_ref(0)?.as_str() == Ok("ok")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_the_calendar() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(Timestamp::from_millis(1_000 * seconds + 999)), shown);
        }
    }
}
