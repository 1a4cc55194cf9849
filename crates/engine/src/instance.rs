//! One live instance in memory, and what the engine keeps beside its code.

use std::collections::{BTreeMap, HashMap};

use partitura_workflow::{Event, EventKind, Execution, Payload, Started};

use crate::effects::child_run;
use crate::summary::{Status, Summary};

/// A live instance: the code at its present await, and the engine's own notes. All of it can be rebuilt from history.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) execution: Execution,
    pub(crate) summary: Summary,
    /// The number of the turn to be written next.
    pub(crate) next_turn: u32,
    pub(crate) notes: Notes,
}

/// What the engine derives from history for itself.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Children that have not ended and are to be cancelled when the parent ends.
    pub(crate) children: BTreeMap<u32, ChildNote>,
    /// The last sign of life of each running task.
    pub(crate) heartbeats: HashMap<u32, Option<Payload>>,
}

#[derive(Debug)]
pub(crate) struct ChildNote {
    pub(crate) workflow: String,
    pub(crate) id: String,
    pub(crate) run: String,
}

impl Notes {
    pub(crate) fn of(run: &str, history: &[Event]) -> Self {
        let mut notes = Self::default();
        for event in history {
            notes.record(run, &event.kind);
        }
        notes
    }

    pub(crate) fn record(&mut self, run: &str, event: &EventKind) {
        match event {
            EventKind::ChildStarted { seq, workflow, id, detached: false, .. } => {
                let note = ChildNote { workflow: workflow.clone(), id: id.clone(), run: child_run(run, *seq) };
                self.children.insert(*seq, note);
            }
            EventKind::ChildCompleted { seq, .. }
            | EventKind::ChildFailed { seq, .. }
            | EventKind::ChildCancelRequested { seq } => {
                self.children.remove(seq);
            }
            EventKind::TaskHeartbeat { seq, details, .. } => {
                self.heartbeats.insert(*seq, details.clone());
            }
            EventKind::TaskCompleted { seq, .. } | EventKind::TaskFailed { seq, .. } => {
                self.heartbeats.remove(seq);
            }
            _ => {}
        }
    }
}

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
        parent: started.parent.clone(),
        end: None,
    }
}
