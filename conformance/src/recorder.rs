//! The recorder: it wraps the broker under test and records requests, answers and deliveries.

use std::io::Write;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::history::{Entry, History, Record};

/// Writes the [`History`] of a case. A clone writes to the same history.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: u32,
    start: Instant,
    /// From the beginning of the case to `start`, in microseconds.
    offset: u64,
    /// The beginning of the case on the wall clock, in microseconds since the Unix epoch.
    origin: u64,
    entries: Mutex<Vec<Entry>>,
    counts: watch::Sender<Counts>,
    /// The output on which a child process sends its entries to the process that runs the case.
    told: bool,
    numbers: AtomicU32,
    calls: AtomicU64,
}

/// The counts so far, which are cheap to wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Messages confirmed.
    pub confirmed: usize,
    /// Messages cancelled.
    pub cancelled: usize,
    /// Messages delivered.
    pub delivered: usize,
    /// Deliveries settled.
    pub settled: usize,
    /// Flushes that were answered.
    pub flushed: usize,
    /// Handlers that have begun.
    pub started: usize,
    /// Handlers that have ended.
    pub ended: usize,
    /// Notes.
    pub notes: usize,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// For a case that begins now.
    pub fn new() -> Self {
        Self::start(0, now_micros(), false)
    }

    /// For a child process of a case that began at `origin`: it also prints its entries, one line of JSON each.
    pub(crate) fn of_child(process: u32, origin: u64) -> Self {
        Self::start(process, origin, true)
    }

    fn start(process: u32, origin: u64, told: bool) -> Self {
        Self(Arc::new(Inner {
            process,
            start: Instant::now(),
            offset: now_micros().saturating_sub(origin),
            origin,
            entries: Mutex::default(),
            counts: watch::Sender::default(),
            told,
            numbers: AtomicU32::new(0),
            calls: AtomicU64::new(0),
        }))
    }

    /// Records an event of this moment.
    pub fn note(&self, record: Record) {
        let inner = &self.0;
        let mut entries = self.entries();
        let at = inner.offset + micros(inner.start.elapsed());
        let entry = Entry { at, wall: now_micros() / 1_000, process: inner.process, record };
        if inner.told {
            tell(&entry);
        }
        self.count(&entry.record);
        entries.push(entry);
    }

    /// Records an event of this moment for another process.
    pub(crate) fn note_of(&self, process: u32, record: Record) {
        let inner = &self.0;
        let at = inner.offset + micros(inner.start.elapsed());
        self.take_up(Entry { at, wall: now_micros() / 1_000, process, record });
    }

    /// Adds an entry of another process.
    pub(crate) fn take_up(&self, entry: Entry) {
        let mut entries = self.entries();
        self.count(&entry.record);
        entries.push(entry);
    }

    /// The history so far.
    pub fn history(&self) -> History {
        History::new(self.entries().clone())
    }

    /// The counts so far, in all processes, and notices of changes.
    pub fn counts(&self) -> watch::Receiver<Counts> {
        self.0.counts.subscribe()
    }

    pub(crate) fn origin(&self) -> u64 {
        self.0.origin
    }

    /// A number for a consumer, or for lanes.
    pub(crate) fn number(&self) -> u32 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a call, unique in all processes.
    pub(crate) fn call(&self) -> u64 {
        (u64::from(self.0.process) << 40) + self.0.calls.fetch_add(1, Ordering::Relaxed)
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, record: &Record) {
        self.0.counts.send_if_modified(|counts| {
            let counter = match record {
                Record::Published { outcome: Ok(_), .. } => &mut counts.confirmed,
                Record::Cancelled { outcome: Ok(true), .. } => &mut counts.cancelled,
                Record::Delivered(_) => &mut counts.delivered,
                Record::Settling { .. } => &mut counts.settled,
                Record::Flushed { .. } => &mut counts.flushed,
                Record::Started { .. } => &mut counts.started,
                Record::Ended { .. } => &mut counts.ended,
                Record::Note(_) => &mut counts.notes,
                _ => return false,
            };
            *counter += 1;
            true
        });
    }
}

/// A line that could not be written was for a process that is gone.
fn tell(entry: &Entry) {
    if let Ok(mut line) = serde_json::to_string(entry) {
        line.push('\n');
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}

fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
}

pub(crate) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
