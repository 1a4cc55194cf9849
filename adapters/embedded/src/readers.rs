//! Connections that only read, beside the one that writes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use partitura_broker::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::error;
use crate::lock::lock;
use crate::storage::Reader;

/// The number of simultaneous reads.
const READERS: usize = 4;

/// Reads run on tokio's threads for blocking work, each on a connection of its own: none waits for the writer's sync,
/// and each sees the data that were committed before it began.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    /// `None` once closed.
    idle: Mutex<Option<Vec<Reader>>>,
    turns: Semaphore,
}

impl Readers {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Some(Vec::new())), turns: Semaphore::new(READERS) }
    }

    /// Reads committed data, without blocking the runtime.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _turn = self.turns.acquire().await.map_err(|_| error::closed("read"))?;
        let readers = self.clone();
        let result = tokio::task::spawn_blocking(move || readers.read_now(read)).await;
        result.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Storage, "read", "reading was broken off").because(error))
        })
    }

    fn read_now<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = lock(&self.idle).as_mut().ok_or_else(|| error::closed("read"))?.pop();
        let reader = idle.map_or_else(|| Reader::open(&self.path), Ok)?;
        let result = reader.read(read);
        if let Some(idle) = lock(&self.idle).as_mut() {
            idle.push(reader);
        }
        result
    }

    pub(crate) fn close(&self) {
        self.turns.close();
        drop(lock(&self.idle).take());
    }
}
