//! The open children of each run, beside its history: a run whose history cannot be read can be ended, and its children
//! learn of that.
//!
//! One row for each child that shares the fate of its parent, from the turn that starts the child to the turn in which it
//! has ended. Only a run is read from here whose history cannot be.

use bytes::Bytes;
use partitura_broker::{Expect, Put, Result, ScanRange, Space};
use partitura_workflow::ParentEnd;
use serde::{Deserialize, Serialize};

use crate::effects::child_run;
use crate::history::run_prefix;
use crate::instance::Notes;
use crate::journal::Journal;
use crate::names::InstanceKey;
use crate::wire;

/// `workflow NUL id NUL run NUL seq` → the child.
const CHILDREN: Space = "children";
const FORMAT: u32 = 1;
const PAGE: usize = 1_000;

/// A child that has not ended, as far as its parent knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Child {
    pub(crate) workflow: String,
    pub(crate) id: String,
    /// What becomes of it when the parent ends.
    #[serde(default)]
    pub(crate) on_parent_end: ParentEnd,
}

#[derive(Serialize, Deserialize)]
struct Row<T> {
    format: u32,
    body: T,
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
    let value = child.map(|body| wire::encode(&Row { format: FORMAT, body }));
    Put { space: CHILDREN, key: row(key, run, seq), expect: Expect::Any, value }
}

/// Adds what is kept of the children of a run whose history cannot be read.
pub(crate) async fn restore(journal: &Journal, key: &InstanceKey, run: &str, notes: &mut Notes) -> Result<()> {
    let prefix = run_prefix(key, run);
    let mut range = ScanRange::prefix(CHILDREN, prefix.clone());
    loop {
        let page = journal.scan(range.clone(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        range = range.after(&last.key);
        for entry in page {
            let seq = entry.key.get(prefix.len()..).and_then(|seq| <[u8; 4]>::try_from(seq).ok());
            match (seq, wire::decode::<Row<Child>>(&entry.value)) {
                (Some(seq), Ok(Row { format: FORMAT, body })) => notes.restore_child(u32::from_be_bytes(seq), body),
                _ => {
                    tracing::warn!(instance = %key, "a child was written by a newer Partitura and is not told of the end")
                }
            }
        }
    }
}

fn row(key: &InstanceKey, run: &str, seq: u32) -> Bytes {
    let mut row = run_prefix(key, run).to_vec();
    row.extend_from_slice(&seq.to_be_bytes());
    row.into()
}
