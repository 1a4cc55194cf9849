//! The open children of each run, beside its history: a run whose history cannot be read can be ended, and its children
//! learn of that.
//!
//! One row for each child that shares the fate of its parent, from the turn that starts the child to the turn in which
//! it has ended. Only a run is read from here whose history cannot be.

use partitura_broker::{Expect, Put, Result, Space};
use partitura_workflow::ParentEnd;
use serde::{Deserialize, Serialize};

use crate::storage::beside;
use crate::storage::turn_store::TurnStore;
use crate::wire::Payloads;
use crate::wire::names::{InstanceKey, child_run};

/// The child of each number.
const CHILDREN: Space = "children";

/// A child that has not ended, as far as its parent knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Child {
    pub(crate) workflow: String,
    pub(crate) id: String,
    /// The policy for the end of the parent.
    #[serde(default)]
    pub(crate) on_parent_end: ParentEnd,
}

impl Child {
    /// Its run, as the call `seq` of the parent's run.
    pub(crate) fn run(parent_run: &str, seq: u32) -> String {
        child_run(parent_run, seq)
    }

    /// Whether the end of the parent concerns it.
    pub(crate) fn shares_fate(&self) -> bool {
        self.on_parent_end != ParentEnd::Abandon
    }
}

/// Keeps a child, or forgets it.
pub(crate) fn put(key: &InstanceKey, run: &str, seq: u32, child: Option<&Child>) -> Put {
    // There is no payload in it.
    let value = child.map(|child| beside::encode(&Payloads::default(), child));
    Put { space: CHILDREN, key: beside::row(key, run, seq), expect: Expect::Any, value }
}

/// The children of a run that are kept, by the numbers of their calls.
pub(crate) async fn kept(turn_store: &TurnStore, key: &InstanceKey, run: &str) -> Result<Vec<(u32, Child)>> {
    let mut children = Vec::new();
    beside::read(turn_store, (CHILDREN, key, run), |child| match child {
        Some((seq, _, child)) => children.push((seq, child)),
        None => tracing::warn!(instance = %key, "a child was written by a newer Partitura and is not told of the end"),
    })
    .await?;
    Ok(children)
}
