//! The shared state of all turns of a workflow.

use std::sync::Arc;

use partitura_broker::{Clock, Partition, partition_of};
use partitura_workflow::Definition;

use crate::core::ReplayValues;
use crate::layer::Layers;
use crate::messaging::directory::Directory;
use crate::storage::pauses::Pauses;
use crate::storage::turn_store::TurnStore;
use crate::telemetry::propagator::Propagation;
use crate::wire::events::EventTopic;
use crate::wire::ids::Ids;
use crate::wire::names::{InstanceKey, WorkflowTopics};
use crate::workflow::delay_cancellation::DelayCancellation;
use crate::workflow::history_limits::HistoryLimits;
use crate::workflow::listeners::Listeners;
use crate::workflow::retention::Retention;
use crate::workflow::steps::Steps;

/// The surroundings of a turn, shared with all others of the workflow.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) definition: Definition,
    /// Which build of the program this is.
    pub(crate) build: Arc<str>,
    /// Tells the code of this program from other code: its build, or, where that is not stated, this worker.
    pub(crate) code: Arc<str>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) topics: WorkflowTopics,
    pub(crate) turn_store: TurnStore,
    pub(crate) directory: Arc<Directory>,
    pub(crate) events: EventTopic,
    pub(crate) steps: Steps,
    pub(crate) delay_cancellation: DelayCancellation,
    pub(crate) replay_values: ReplayValues,
    pub(crate) history_limits: HistoryLimits,
    pub(crate) retention: Retention,
    pub(crate) listeners: Listeners,
    pub(crate) propagation: Propagation,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) layers: Layers,
}

impl Context {
    /// The partition of an instance's commands.
    pub(super) fn partition(&self, key: &InstanceKey) -> Partition {
        partition_of(key.id.as_bytes(), self.directory.partitions())
    }
}
