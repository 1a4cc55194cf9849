//! The shared state of handles, consumers, producers and the writer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use partitura_broker::{Capabilities, Clock, CorrectedClock, Error, ErrorKind, Message, Result, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::catalog::Catalog;
use crate::failure;
use crate::readers::Readers;
use crate::request::{Prepared, Request, Work};
use crate::state::State;
use crate::thread::Queue;
use crate::writer::Writer;

/// Work accepted and not yet written, in KiB.
const ADMITTED: u32 = 64 << 10;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
    pub(crate) desk: Desk,
    pub(crate) readers: Readers,
    state: Mutex<State>,
    admission: Arc<Semaphore>,
    keyless: AtomicU32,
}

/// The receiver of requests.
#[derive(Debug)]
pub(crate) enum Desk {
    /// To the thread that writes.
    Thread(Queue),
    /// In memory: the calling task carries requests out at once. `None` once it is closed.
    Inline(Mutex<Option<Writer>>),
}

/// A lock whose holder panicked can be used: the state changes only after the storage, in steps that do not panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(
        capabilities: Capabilities,
        clock: CorrectedClock,
        state: State,
        desk: Desk,
        readers: Readers,
    ) -> Self {
        let admission = Arc::new(Semaphore::new(ADMITTED as usize));
        Self { capabilities, clock, desk, readers, state: Mutex::new(state), admission, keyless: AtomicU32::new(0) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Held briefly, never across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Checks a message and finds its place.
    pub(crate) fn prepare(&self, catalog: &Catalog, message: Message, now: Timestamp) -> Result<Prepared> {
        self.capabilities.check(&message, now)?;
        let topic = catalog.target(&message.topic)?.clone();
        let partition = match &message.key {
            Some(_) => topic.partition(&message, 0),
            None => topic.partition(&message, self.keyless.fetch_add(1, Ordering::Relaxed)),
        };
        Ok(Prepared::new(topic, partition, message))
    }

    /// Waits until there is room for `bytes` bytes of work. First come, first served.
    pub(crate) async fn admit(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let permits = u32::try_from(bytes.div_ceil(1_024)).unwrap_or(ADMITTED).clamp(1, ADMITTED);
        self.admission.clone().acquire_many_owned(permits).await.map_err(|_| failure::closed("wait"))
    }

    /// Passes a request on, in order. It is carried out also if no caller waits for the answer.
    pub(crate) fn submit(&self, request: Request) -> Result<()> {
        match &self.desk {
            Desk::Thread(queue) => queue.push(request),
            Desk::Inline(writer) => {
                let mut writer = lock(writer);
                let Some(writer) = writer.as_mut() else { return Err(failure::closed("submit")) };
                writer.run(vec![request], self);
                Ok(())
            }
        }
    }

    /// Notes a settlement, which is written with the next batch, or soon.
    pub(crate) fn settled(&self) {
        match &self.desk {
            Desk::Thread(queue) => queue.nudge(),
            Desk::Inline(writer) => {
                if let Some(writer) = lock(writer).as_mut() {
                    writer.run(Vec::new(), self);
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

    /// Ends the broker: new requests are refused, and accepted ones are still written.
    pub(crate) fn stop(&self) {
        self.admission.close();
        match &self.desk {
            Desk::Thread(queue) => queue.stop(),
            Desk::Inline(writer) => drop(lock(writer).take()),
        }
        self.state().close();
        self.readers.close();
    }
}

/// A missing answer means that the writer has ended.
pub(crate) async fn answered<T>(operation: &'static str, answer: oneshot::Receiver<T>) -> Result<T> {
    answer.await.map_err(|_| {
        let message = "the writer ended before it answered; open the broker again";
        Error::new(ErrorKind::OutcomeUnknown, operation, message)
    })
}
