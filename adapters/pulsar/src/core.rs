//! What everything that belongs to one connection shares.

use std::sync::Arc;

use partitura_broker::{Capabilities, CorrectedClock};

use crate::delay::Forwarders;
use crate::lanes::Lanes;
use crate::session::Cluster;
use crate::topology::Catalog;

/// The name of this broker in telemetry.
pub(crate) const SYSTEM: &str = "pulsar";

/// The parts of one connection.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) forwarders: Forwarders,
    /// Whether the broker settles single messages of a batch; where it does not, none are sent.
    pub(crate) settles_by_index: bool,
}
