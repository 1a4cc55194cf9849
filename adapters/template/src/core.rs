use partitura_broker::{Capabilities, CorrectedClock, Result};

use crate::client::Client;
use crate::error;

/// The name of this broker in telemetry.
pub(crate) const SYSTEM: &str = "template";

/// The state that everything shares that comes from one [`Template`](crate::Template). It knows none of the items that
/// use it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) client: Client,
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
}

impl Core {
    /// # Errors
    /// [`Closed`](partitura_broker::ErrorKind::Closed), if the broker was closed.
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.client.is_closed() { Err(error::closed(operation)) } else { Ok(()) }
    }
}
