use std::collections::BTreeMap;

use partitura_workflow::Started;

use crate::wire::indexed::Indexed;
use crate::wire::summary::{Status, Summary};

/// The summary of an instance that begins now.
pub(crate) fn beginning(started: &Started, at: u64) -> Summary {
    Summary {
        workflow: started.workflow.clone(),
        id: started.id.clone(),
        run: started.run.clone(),
        status: Status::Running,
        started_at: at,
        closed_at: None,
        tags: started.tags.clone(),
        attributes: BTreeMap::new(),
        build: None,
        versions: BTreeMap::new(),
        parent: started.parent.clone(),
        awaited_by: Vec::new(),
        end: None,
        waiting: Vec::new(),
        waits_for: 0,
        held_up: None,
        detached: Vec::new(),
        expires_at: None,
        first_run: started.continued.as_ref().map(|continued| continued.first.clone()),
        workflow_version: started.version,
        paused_with_workflow: false,
        attempt: started.attempt(),
        detached_before: BTreeMap::new(),
        indexed: Indexed::default(),
        end_signals: Vec::new(),
    }
}
