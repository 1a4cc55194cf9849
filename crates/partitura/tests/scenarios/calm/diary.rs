use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::problem::Problem;

/// The calls, a line for each, by all processes.
#[derive(Debug)]
pub(crate) struct Diary {
    path: PathBuf,
    file: File,
}

/// Where steps write, and how long a task takes.
static OF_PROCESS: OnceLock<(Arc<Diary>, Duration)> = OnceLock::new();

/// Has the steps of this process write here.
pub(crate) fn of_this_process(diary: &Arc<Diary>, task: Duration) {
    // The broker without a server has all workers in one process, which has one diary.
    let _ = OF_PROCESS.set((diary.clone(), task));
}

pub(crate) fn of_process() -> Option<(Arc<Diary>, Duration)> {
    OF_PROCESS.get().cloned()
}

impl Diary {
    pub(crate) fn open(directory: &Path) -> io::Result<Arc<Self>> {
        let path = directory.join("calls.txt");
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        Ok(Arc::new(Self { path, file }))
    }

    /// One write, so that lines of several processes do not mix.
    pub(crate) fn note(&self, name: &str) -> io::Result<()> {
        (&self.file).write_all(format!("{name}\n").as_bytes())
    }

    pub(crate) fn read(&self) -> io::Result<Vec<String>> {
        Ok(std::fs::read_to_string(&self.path)?.lines().map(str::to_owned).collect())
    }

    /// Waits until it holds `calls` calls.
    pub(crate) async fn holds(&self, calls: usize) -> io::Result<()> {
        while self.read()?.len() < calls {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// Each is called once, and nothing else is.
pub(crate) fn compare(called: Vec<String>, wanted: Vec<String>) -> Result<(), Problem> {
    let mut counts: BTreeMap<String, i32> = BTreeMap::new();
    called.into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
    wanted.into_iter().for_each(|name| *counts.entry(name).or_default() -= 1);
    let wrong: Vec<String> = counts
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .map(|(name, count)| if count > 0 { format!("{name}: {count} too often") } else { format!("{name}: never") })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("without a fault,\n  {}", wrong.join("\n  ")).into()) }
}
