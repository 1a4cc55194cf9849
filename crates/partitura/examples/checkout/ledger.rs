use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use partitura::TaskContext;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// A service's own book on disk: append-only, and each task writes into it at most once.
///
/// It stands for whatever a real service keeps (a database, an acquirer's API), and shows what such a service needs to be safe with
/// tasks that may run more than once: to remember what it did under the task's idempotency key.
#[derive(Debug)]
pub struct Ledger {
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    file: File,
    length: u64,
    /// The number of the entry that each task wrote, by idempotency key.
    numbers: HashMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line<E> {
    key: String,
    entry: E,
}

impl Ledger {
    /// Opens or creates it. A last line that was cut short by a crash is removed: nobody was told of it.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let written = fs::read(path)?;
        let whole = whole_lines(&written);
        file.set_len(whole.len() as u64)?;
        let lines = parse::<IgnoredAny>(path, whole)?;
        let numbers = lines.into_iter().map(|line| line.key).zip(1..).collect();
        Ok(Self { book: Mutex::new(Book { file, length: whole.len() as u64, numbers }) })
    }

    /// Enters what the current task did and gives the number of the entry; that of the earlier one if the task was here before.
    ///
    /// Written before it returns. `write(2)` is enough to survive the process; to survive a power failure, too, a real ledger
    /// would sync as well.
    pub fn once(&self, entry: &impl Serialize) -> io::Result<u64> {
        let key = TaskContext::current().ok_or_else(|| io::Error::other("not within a task"))?.idempotency_key();
        let line = Line { key, entry };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        match book.numbers.get(&line.key) {
            Some(number) => Ok(*number),
            None => book.append(line.key, &bytes),
        }
    }

    /// All entries of a ledger on disk.
    pub fn read<E: DeserializeOwned>(path: &Path) -> io::Result<Vec<E>> {
        let written = fs::read(path)?;
        Ok(parse(path, whole_lines(&written))?.into_iter().map(|line| line.entry).collect())
    }
}

impl Book {
    fn append(&mut self, key: String, line: &[u8]) -> io::Result<u64> {
        if let Err(error) = self.file.write_all(line) {
            // Half a line must not get company.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += line.len() as u64;
        let number = self.numbers.len() as u64 + 1;
        self.numbers.insert(key, number);
        Ok(number)
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
