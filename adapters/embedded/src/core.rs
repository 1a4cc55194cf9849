//! The state that all parts of one broker share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use partitura_broker::{Capabilities, Clock, CorrectedClock, Message, Result, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error;
use crate::lock::lock;
use crate::request::Prepared;
use crate::state::State;
use crate::topics::Catalog;

/// The name of this broker in telemetry.
pub(crate) const SYSTEM: &str = "partitura_embedded";

/// Work accepted and not yet written, in KiB.
const ADMITTED: u32 = 64 << 10;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
    state: Mutex<State>,
    admission: Arc<Semaphore>,
    keyless: AtomicU32,
}

impl Core {
    pub(crate) fn new(capabilities: Capabilities, clock: CorrectedClock, state: State) -> Self {
        let admission = Arc::new(Semaphore::new(ADMITTED as usize));
        Self { capabilities, clock, state: Mutex::new(state), admission, keyless: AtomicU32::new(0) }
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
        self.admission.clone().acquire_many_owned(permits).await.map_err(|_| error::closed("wait"))
    }

    /// Refuses new work.
    pub(crate) fn close_admission(&self) {
        self.admission.close();
    }
}
