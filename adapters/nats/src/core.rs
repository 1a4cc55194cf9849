use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use partitura_broker::{Capabilities, CorrectedClock};
use tokio::sync::watch;

use crate::client::Connector;
use crate::options::Settings;
use crate::topics::Topics;

/// The name of this broker in telemetry.
pub(crate) const SYSTEM: &str = "nats";

/// The state that everything shares that comes from one [`Nats`](crate::Nats). It knows none of the items that use it.
pub(crate) struct Core {
    pub(crate) settings: Arc<Settings>,
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
    pub(crate) topics: Topics,
    /// Messages go out over one connection and come in over another, so that neither waits for the other.
    pub(crate) publishing: Connector,
    pub(crate) consuming: Connector,
    pub(crate) closing: watch::Sender<bool>,
    /// Whether a warning was logged that a foreign subscription keeps partitions from being claimed. One is enough.
    pub(crate) has_warned: AtomicBool,
}

impl Core {
    pub(crate) fn closed(&self) -> Closed {
        Closed(self.closing.subscribe())
    }
}

/// Waits for the broker to be closed.
pub(crate) struct Closed(watch::Receiver<bool>);

impl Closed {
    pub(crate) async fn wait(&mut self) {
        // Without its sender the broker is gone, too.
        let _ = self.0.wait_for(|closed| *closed).await;
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("settings", &self.settings).finish_non_exhaustive()
    }
}
