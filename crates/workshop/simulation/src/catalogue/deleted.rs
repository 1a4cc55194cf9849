//! Instances that an operator has deleted.

use partitura::{Workflow, WorkflowHandle};

use crate::world::World;

/// Whether an operator has deleted the instance.
pub(super) fn is_deleted<W: Workflow>(world: &World, handle: &WorkflowHandle<W>) -> bool {
    world.lock().audit.deletions.has_had(W::NAME, handle.id())
}
