//! The certain knowledge of the processes under test: written before anything else happens, read by the process that
//! comes next.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use partitura::TaskContext;

/// The answers to the client, run after run.
#[derive(Debug)]
pub(crate) struct Diary(File);

/// A line of the diary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The start of this instance was confirmed.
    Started(String),
    /// The signal to this instance from outside was confirmed.
    Told(String),
    /// This instance ended, and how.
    Ended(String, String),
    /// The process ended itself at a point of this name.
    Crashed(String),
    /// A run came to its end, after this number of points.
    Finished(u32),
}

impl Diary {
    pub(crate) fn open(path: &Path) -> Self {
        Self(OpenOptions::new().append(true).create(true).open(path).expect("the diary can be written"))
    }

    pub(crate) fn read(path: &Path) -> Vec<Entry> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let entry = |line: &str| match line.split('\t').collect::<Vec<_>>()[..] {
            ["started", id] => Entry::Started(id.to_owned()),
            ["told", id] => Entry::Told(id.to_owned()),
            ["ended", id, outcome] => Entry::Ended(id.to_owned(), outcome.to_owned()),
            ["crashed", at] => Entry::Crashed(at.to_owned()),
            ["finished", points] => Entry::Finished(points.parse().expect("a number")),
            _ => panic!("not a line of a diary: {line}"),
        };
        text.lines().map(entry).collect()
    }

    pub(crate) fn started(&mut self, id: &str) {
        self.write(&format!("started\t{id}\n"));
    }

    pub(crate) fn told(&mut self, id: &str) {
        self.write(&format!("told\t{id}\n"));
    }

    pub(crate) fn ended(&mut self, id: &str, outcome: &str) {
        self.write(&format!("ended\t{id}\t{outcome}\n"));
    }

    pub(crate) fn crashed(&mut self, at: &str) {
        self.write(&format!("crashed\t{at}\n"));
    }

    pub(crate) fn finished(&mut self, points: u32) {
        self.write(&format!("finished\t{points}\n"));
    }

    /// In one call of the system: a line is there whole or not at all.
    fn write(&mut self, line: &str) {
        self.0.write_all(line.as_bytes()).expect("the diary can be written");
    }
}

/// A service's own book: each task writes into it at most once, however often it runs.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<Book>);

#[derive(Debug)]
struct Book {
    file: File,
    by_key: HashMap<String, String>,
}

impl Ledger {
    pub(crate) fn open(path: &Path) -> Self {
        let file = OpenOptions::new().append(true).create(true).open(path).expect("the ledger can be written");
        Self(Mutex::new(Book { file, by_key: entries(path).into_iter().collect() }))
    }

    /// All entries, in the order in which they were made.
    pub(crate) fn read(path: &Path) -> Vec<String> {
        entries(path).into_iter().map(|(_, entry)| entry).collect()
    }

    /// Enters what the current task does, unless it did so before. Gives what is entered under its key.
    pub(crate) fn once(&self, entry: &str) -> String {
        let key = TaskContext::current().expect("inside of a task").idempotency_key();
        let mut book = self.0.lock().expect("no entry panics");
        if let Some(earlier) = book.by_key.get(&key) {
            return earlier.clone();
        }
        book.file.write_all(format!("{key}\t{entry}\n").as_bytes()).expect("the ledger can be written");
        book.by_key.insert(key, entry.to_owned());
        entry.to_owned()
    }
}

fn entries(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let entry = |line: &str| line.split_once('\t').map(|(key, entry)| (key.to_owned(), entry.to_owned()));
    text.lines().map(|line| entry(line).expect("a key and an entry")).collect()
}
