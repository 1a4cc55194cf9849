use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::Publishers;
use partitura_broker::{Capabilities, CorrectedClock, Result};

use crate::client::{Client, Connector};
use crate::consuming::ConsumingConnections;
use crate::error::closed;
use crate::topics::Topics;

/// The name of this broker in telemetry.
pub(crate) const SYSTEM: &str = "rabbitmq";

/// The limit for the confirms of published messages when the broker is closed.
const LAST_CONFIRMS_TIMEOUT: Duration = Duration::from_secs(10);

/// The state that everything shares that comes from one [`Rabbitmq`](crate::Rabbitmq). It knows none of the items that
/// use it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
    pub(crate) client: Arc<Client>,
    /// Declares, asks, and receives replies.
    pub(crate) control: Arc<Connector>,
    /// Publishes, and nothing else: the broker may stop reading from it.
    pub(crate) publishing: Arc<Connector>,
    pub(crate) consuming: ConsumingConnections,
    pub(crate) topics: Topics,
    /// The publishers that may have messages under way.
    pub(crate) publishers: Publishers,
}

impl Core {
    pub(crate) fn new(client: Arc<Client>, control: Arc<Connector>, capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            clock: CorrectedClock::default(),
            topics: Topics::new(control.clone()),
            publishing: client.connector("publishing"),
            consuming: ConsumingConnections::default(),
            client,
            control,
            publishers: Publishers::default(),
        }
    }

    /// # Errors
    /// [`Closed`](partitura_broker::ErrorKind::Closed), if the broker was closed.
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.client.is_closed() { Err(closed(operation)) } else { Ok(()) }
    }

    /// Accepts nothing new, waits for the confirms of accepted messages, and closes the connections.
    pub(crate) async fn close(&self) -> Result<()> {
        self.client.close();
        // A message that is not confirmed by then fails with an unknown outcome.
        self.publishers.all_ended(LAST_CONFIRMS_TIMEOUT).await;
        self.client.close_connections().await
    }
}
