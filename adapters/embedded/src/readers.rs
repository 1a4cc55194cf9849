//! Connections that only read, beside the one that writes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use partitura_broker::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::core::{Core, Desk, lock};
use crate::failure;
use crate::storage::Reader;

/// The number of simultaneous reads.
const READERS: usize = 4;

/// Reads run on tokio's threads for blocking work, each on a connection of its own: none waits for the writer's sync, and
/// each sees what was committed before it began.
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

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = lock(&self.idle).as_mut().ok_or_else(|| failure::closed("read"))?.pop();
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

impl Core {
    /// Reads what is committed, without blocking the runtime.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Desk::Inline(writer) = &self.desk {
            return match lock(writer).as_ref() {
                Some(writer) => writer.storage().read(read),
                None => Err(failure::closed("read")),
            };
        }
        let _turn = self.readers.turns.acquire().await.map_err(|_| failure::closed("read"))?;
        let core = self.clone();
        let result = tokio::task::spawn_blocking(move || core.readers.read(read)).await;
        result.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Storage, "read", "reading was broken off").because(error))
        })
    }
}
