use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Capabilities, CorrectedClock, Result};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::client::{Client, Connector};
use crate::error::closed;
use crate::management::Management;
use crate::topics::Topics;

/// The name of this broker in telemetry.
pub(crate) const SYSTEM: &str = "amqp";

/// The limit for the confirms of published messages when the broker is closed.
const LAST_CONFIRMS_TIMEOUT: Duration = Duration::from_secs(10);

/// The state that everything shares that comes from one [`Amqp`](crate::Amqp). It knows none of the items that use it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
    pub(crate) client: Arc<Client>,
    /// Asks, and receives replies.
    pub(crate) control: Arc<Connector>,
    /// Publishes.
    pub(crate) publishing: Arc<Connector>,
    pub(crate) management: Arc<Management>,
    pub(crate) topics: Topics,
    /// The number of publishers that have messages under way.
    publishers: watch::Sender<usize>,
}

impl Core {
    pub(crate) fn new(
        client: Arc<Client>,
        control: Arc<Connector>,
        management: Arc<Management>,
        capabilities: Capabilities,
    ) -> Self {
        Self {
            capabilities,
            clock: CorrectedClock::default(),
            topics: Topics::new(management.clone()),
            management,
            publishing: client.connector("publishing"),
            client,
            control,
            publishers: watch::Sender::new(0),
        }
    }

    /// # Errors
    /// [`Closed`](partitura_broker::ErrorKind::Closed), if the broker was closed.
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.client.is_closed() { Err(closed(operation)) } else { Ok(()) }
    }

    /// Counts a publisher until the guard is dropped.
    pub(crate) fn publisher(&self) -> PublisherGuard {
        self.publishers.send_modify(|count| *count += 1);
        PublisherGuard(self.publishers.clone())
    }

    /// Accepts nothing new, waits for the confirms of accepted messages, and closes the connections.
    pub(crate) async fn close(&self) -> Result<()> {
        self.client.close();
        let mut publishers = self.publishers.subscribe();
        // A message that is not confirmed by then fails with an unknown outcome.
        let _ = timeout(LAST_CONFIRMS_TIMEOUT, publishers.wait_for(|count| *count == 0)).await;
        self.client.close_connections().await;
        Ok(())
    }
}

/// A publisher that has not ended.
#[derive(Debug)]
pub(crate) struct PublisherGuard(watch::Sender<usize>);

impl Drop for PublisherGuard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
