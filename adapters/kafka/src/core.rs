//! The state that everything on one connection shares.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use partitura_broker::{Capabilities, Clock, CorrectedClock, Result, Timestamp};

use crate::capabilities;
use crate::client::Client;
use crate::new_log::NewLogs;
use crate::options::{Options, Target};
use crate::stop::Stop;
use crate::topics::Topics;

/// The name of the broker in telemetry.
pub(crate) const SYSTEM: &str = "kafka";

/// A connection: its clients, its clock, the known topics, and the threads that end with it.
pub(crate) struct Core {
    pub(crate) client: Arc<Client>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
    pub(crate) new_logs: NewLogs,
    /// The threads that read.
    stops: Mutex<Vec<Weak<Stop>>>,
    consumers: AtomicU32,
}

impl Core {
    pub(crate) async fn connect(url: &str, options: Options) -> Result<Self> {
        let client = Arc::new(Client::connect(Target::new(url, options)?).await?);
        let capabilities = capabilities::read(&client).await?;
        Ok(Self {
            topics: Arc::new(Topics::new(client.clone())),
            client,
            capabilities,
            clock: CorrectedClock::default(),
            new_logs: NewLogs::default(),
            stops: Mutex::default(),
            consumers: AtomicU32::new(1),
        })
    }

    pub(crate) fn target(&self) -> &Target {
        self.client.target()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(crate) fn next_consumer(&self) -> u32 {
        self.consumers.fetch_add(1, Ordering::Relaxed)
    }

    /// Stops this thread with the connection.
    pub(crate) fn stop_on_close(&self, stop: &Arc<Stop>) {
        let mut stops = self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        stops.retain(|stop| stop.strong_count() > 0);
        stops.push(Arc::downgrade(stop));
        if self.is_closed() {
            stop.stop();
        }
    }

    /// Stops all these threads, after the client was closed.
    pub(crate) fn stop_all(&self) {
        let stops: Vec<_> = self.stops.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        stops.iter().filter_map(Weak::upgrade).for_each(|stop| stop.stop());
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("client", &self.client).finish_non_exhaustive()
    }
}
