//! The connection to the storage: writes go to the one writer, reads to connections beside it.

use std::sync::{Arc, Mutex};

use partitura_broker::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::core::Core;
use crate::error;
use crate::file::Directory;
use crate::lock::lock;
use crate::readers::Readers;
use crate::request::{Request, Work};
use crate::write_queue::{self, WriteQueue};
use crate::writer::Writer;

/// The connection of one broker. Dropping it stops the writer; accepted requests are still written.
#[derive(Debug)]
pub(crate) struct Client {
    core: Arc<Core>,
    pub(crate) writer: WriterHandle,
    readers: Arc<Readers>,
}

/// The receiver of requests.
#[derive(Debug)]
pub(crate) enum WriterHandle {
    /// The queue of the thread that writes.
    Thread(Arc<WriteQueue>),
    /// In memory the calling task carries requests out at once. `None` once it is closed.
    Inline(Box<Mutex<Option<Writer>>>),
}

impl Client {
    /// Starts the thread that writes.
    pub(crate) fn open(core: Core, writer: Writer, directory: Directory) -> Result<Self> {
        let (core, queue) = (Arc::new(core), Arc::new(WriteQueue::new()));
        let readers = Arc::new(Readers::new(directory.file().to_path_buf()));
        let client = Self { core, writer: WriterHandle::Thread(queue.clone()), readers };
        write_queue::start(queue, client.core.clone(), client.readers.clone(), writer, directory)?;
        Ok(client)
    }

    pub(crate) fn memory(core: Core, writer: Writer) -> Self {
        let writer = WriterHandle::Inline(Box::new(Mutex::new(Some(writer))));
        Self { core: Arc::new(core), writer, readers: Arc::new(Readers::new(Default::default())) }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Whether everything is in memory.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.writer, WriterHandle::Inline(_))
    }

    /// Passes a request on, in order. It is carried out also if no caller waits for the answer.
    pub(crate) fn submit(&self, request: Request) -> Result<()> {
        match &self.writer {
            WriterHandle::Thread(queue) => queue.push(request),
            WriterHandle::Inline(writer) => {
                let mut writer = lock(writer);
                let Some(writer) = writer.as_mut() else { return Err(error::closed("submit")) };
                writer.run(vec![request], &self.core);
                Ok(())
            }
        }
    }

    /// Notes a settlement, which is written with the next batch, or soon.
    pub(crate) fn settled(&self) {
        match &self.writer {
            WriterHandle::Thread(queue) => queue.nudge(),
            WriterHandle::Inline(writer) => {
                if let Some(writer) = lock(writer).as_mut() {
                    writer.run(Vec::new(), &self.core);
                }
            }
        }
    }

    /// Waits until all requests so far are written.
    pub(crate) async fn flush(&self) -> Result<()> {
        let (request, answer) = Request::one(Work::Flush, Vec::new());
        self.submit(request)?;
        answered("flush", answer).await?
    }

    /// Reads committed data, without blocking the runtime.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.writer {
            WriterHandle::Thread(_) => self.readers.read(read).await,
            WriterHandle::Inline(writer) => match lock(writer).as_ref() {
                Some(writer) => writer.storage().read(read),
                None => Err(error::closed("read")),
            },
        }
    }

    /// Refuses new requests. Accepted ones are still written.
    fn stop(&self) {
        self.core.close_admission();
        match &self.writer {
            WriterHandle::Thread(queue) => queue.stop(),
            WriterHandle::Inline(writer) => drop(lock(writer).take()),
        }
        self.core.state().close();
        self.readers.close();
    }

    /// Writes accepted requests, and waits until the file is given back.
    pub(crate) async fn close(&self) -> Result<()> {
        let flushed = match self.flush().await {
            Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
            flushed => flushed,
        };
        self.stop();
        if let WriterHandle::Thread(queue) = &self.writer {
            queue.ended().await;
        }
        flushed
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A missing answer means that the writer has ended.
pub(crate) async fn answered<T>(operation: &'static str, answer: oneshot::Receiver<T>) -> Result<T> {
    answer.await.map_err(|_| {
        let message = "the writer ended before it answered; open the broker again";
        Error::new(ErrorKind::OutcomeUnknown, operation, message)
    })
}
