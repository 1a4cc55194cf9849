use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use partitura::TaskContext;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// A service's own book on disk: append-only, and each task writes into it at most once, whichever of the service's
/// processes it runs in, and however often.
///
/// It stands for whatever a real service keeps (a database, an acquirer's API), and shows what such a service needs to
/// be safe with tasks that may run more than once: to remember what it did under the task's idempotency key.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    book: Mutex<Book>,
    places: Places,
}

#[derive(Debug)]
struct Book {
    file: File,
    /// How much of it is known: other processes append as well.
    read: u64,
    /// The number of the entry that each task wrote, by idempotency key.
    numbers: HashMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line<E> {
    key: String,
    /// Its place among the entries of all ledgers of the directory.
    place: u64,
    /// When it was entered by the clock of the process, in microseconds since the Unix epoch. It says nothing about the
    /// order: clocks of other processes may differ.
    at: u64,
    entry: E,
}

impl Ledger {
    /// Opens or creates it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(directory)?;
        let places = Places::open(directory)?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        Ok(Self { path: path.to_owned(), book: Mutex::new(Book { file, read: 0, numbers: HashMap::new() }), places })
    }

    /// Enters what the current task did and gives the number of the entry; that of the earlier one if the task was here
    /// before.
    ///
    /// Written before it returns. `write(2)` is enough to survive the process; to survive a power failure, too, a real
    /// ledger would sync as well.
    pub fn once(&self, entry: &impl Serialize) -> io::Result<u64> {
        let key = TaskContext::current().ok_or_else(|| io::Error::other("not within a task"))?.idempotency_key();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?.as_micros();
        let line = Line { key, place: 0, at: u64::try_from(at).map_err(io::Error::other)?, entry };
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        // One process at a time. The lock of a process that is killed is free again.
        book.file.lock()?;
        let number = book.enter(&self.path, &self.places, line);
        book.file.unlock()?;
        number
    }

    /// All entries of a ledger on disk, each with its place among those of all ledgers of the directory.
    pub fn read<E: DeserializeOwned>(path: &Path) -> io::Result<Vec<(u64, E)>> {
        let written = fs::read(path).map_err(|error| {
            io::Error::new(error.kind(), format!("the ledger {} cannot be read: {error}", path.display()))
        })?;
        Ok(parse(path, whole_lines(&written))?.into_iter().map(|line| (line.place, line.entry)).collect())
    }
}

impl Book {
    fn enter(&mut self, path: &Path, places: &Places, mut line: Line<impl Serialize>) -> io::Result<u64> {
        self.read_on(path)?;
        if let Some(number) = self.numbers.get(&line.key) {
            return Ok(*number);
        }
        line.place = places.next()?;
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        if let Err(error) = self.file.write_all(&bytes) {
            // Half a line must not get company.
            self.file.set_len(self.read)?;
            return Err(error);
        }
        self.read += bytes.len() as u64;
        Ok(self.note(line.key))
    }

    /// Learns what others entered. A last line that was cut short is removed: the process that wrote it is dead, and
    /// told nobody.
    fn read_on(&mut self, path: &Path) -> io::Result<()> {
        if self.file.metadata()?.len() == self.read {
            return Ok(());
        }
        let mut new = Vec::new();
        self.file.seek(SeekFrom::Start(self.read))?;
        self.file.read_to_end(&mut new)?;
        let whole = whole_lines(&new);
        for line in parse::<IgnoredAny>(path, whole)? {
            self.note(line.key);
        }
        self.read += whole.len() as u64;
        self.file.set_len(self.read)
    }

    fn note(&mut self, key: String) -> u64 {
        let number = self.numbers.len() as u64 + 1;
        self.numbers.insert(key, number);
        number
    }
}

/// Numbers the entries of all ledgers of a directory, in the order in which they are made, whatever the clocks of the
/// processes say: what is entered after another entry was returned has a higher number.
///
/// The number is the length of a file, without content: the system changes it whole, also for a process that is killed.
#[derive(Debug)]
struct Places(File);

impl Places {
    fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join("places");
        Ok(Self(OpenOptions::new().write(true).create(true).truncate(false).open(path)?))
    }

    fn next(&self) -> io::Result<u64> {
        self.0.lock()?;
        let place = self.0.metadata().and_then(|file| {
            let next = file.len() + 1;
            self.0.set_len(next).map(|()| next)
        });
        self.0.unlock()?;
        place
    }
}

fn whole_lines(written: &[u8]) -> &[u8] {
    let end = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    &written[..end]
}

fn parse<E: DeserializeOwned>(path: &Path, lines: &[u8]) -> io::Result<Vec<Line<E>>> {
    let entry = |(index, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|error| {
            let problem = format!("the ledger {} is damaged at line {}: {error}", path.display(), index + 1);
            io::Error::new(io::ErrorKind::InvalidData, problem)
        })
    };
    lines.split_inclusive(|byte| *byte == b'\n').enumerate().map(entry).collect()
}
