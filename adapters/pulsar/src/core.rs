//! The state that all parts of one connection share.

use std::sync::Arc;

use partitura_broker::{Capabilities, CorrectedClock};

use crate::client::Cluster;
use crate::publisher::Publisher;
use crate::topics::Topics;

/// The name of this broker in telemetry.
pub(crate) const SYSTEM: &str = "pulsar";

/// The parts of one connection.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) publisher: Arc<Publisher>,
    /// Whether the broker settles single messages of a batch. If it does not, no batches are sent.
    pub(crate) settles_by_index: bool,
}
