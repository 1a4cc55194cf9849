//! Rows by which instances are found, the newest first: derived from the summary, and written with it. Each has the
//! summary as its value, without what lists leave out.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use partitura_broker::{Entry, ErrorKind, Expect, Put, Result, ScanRange, Space, Unit, Version};

use crate::storage::turn_store::TurnStore;
use crate::storage::{history, index_keys};
use crate::wire::Payloads;
use crate::wire::indexed::Indexed;
use crate::wire::names::InstanceKey;
use crate::wire::shorten::shorten;
use crate::wire::summary::{Status, Summary};

/// The rows.
pub(crate) const INDEX: Space = "index";

/// How much of the reason of a stop is listed, in bytes.
const REASON: usize = 512;
/// How many rows are read at a time.
const PAGE: usize = 500;
/// How many summaries are read at once.
const READS: usize = 16;

/// Writes the rows of a summary, and removes those that it had before. `write` adds a write to those of the turn.
pub(crate) fn update(unit: &mut Unit, summary: &mut Summary, write: impl Fn(&mut Unit, Put)) {
    let Indexed(keys) = index_keys::indexed(summary);
    for old in summary.indexed.0.drain(..).filter(|old| !keys.contains(old)) {
        write(unit, put(old, None));
    }
    // The end may be large, and is not listed: nothing that is listed is a payload.
    let end = summary.end.take();
    let value = history::encode_summary(&Payloads::default(), &listed(summary.clone()));
    summary.end = end;
    for key in &keys {
        write(unit, put(key.clone(), Some(value.clone())));
    }
    summary.indexed = Indexed(keys);
}

/// Removes the rows of an instance that is deleted.
pub(crate) fn remove(unit: &mut Unit, summary: &Summary, write: impl Fn(&mut Unit, Put)) {
    for old in &summary.indexed.0 {
        write(unit, put(old.clone(), None));
    }
}

fn put(key: Bytes, value: Option<Bytes>) -> Put {
    Put { space: INDEX, key, expect: Expect::Any, value }
}

/// The summary, without what lists leave out.
pub(crate) fn listed(summary: Summary) -> Summary {
    let mut listed = Summary {
        end: None,
        awaited_by: Vec::new(),
        detached: Vec::new(),
        detached_before: Default::default(),
        waiting: Vec::new(),
        indexed: Indexed::default(),
        ..summary
    };
    if let Status::Stopped { reason } | Status::Paused { reason } = &mut listed.status {
        shorten(reason, REASON);
    }
    listed
}

/// Whether the instances that a workflow had before there was an index are in it: `v`, the name of the workflow.
fn complete(workflow: &str) -> Bytes {
    [b"v", workflow.as_bytes()].concat().into()
}

/// Writes the rows of instances that were there before this index was, once for each workflow.
///
/// # Errors
/// Those of the store. The rows that were written stay.
pub(crate) async fn bring_up(turn_store: &TurnStore, workflow: &str) -> Result<()> {
    if turn_store.get(INDEX, complete(workflow)).await?.is_some() {
        return Ok(());
    }
    let written = write_anew(turn_store, &[workflow.as_bytes(), b"\0"].concat()).await?;
    if written > 0 {
        tracing::info!(workflow, written, "instances of an earlier version are found by now");
    }
    let done = put(complete(workflow), Some(Bytes::from_static(b"1")));
    all(turn_store.write(vec![vec![done]]).await?)
}

/// Writes the rows of all instances anew, and removes those that are of none. How many instances there are.
///
/// # Errors
/// Those of the store. The rows that were written stay.
pub(crate) async fn rebuild(turn_store: &TurnStore) -> Result<usize> {
    let written = write_anew(turn_store, b"").await?;
    // Each instance has one of these; what else is of the same instance was written with it.
    let mut range = ScanRange::prefix(INDEX, &b"s"[..]);
    loop {
        let page = turn_store.scan(range.clone(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(written) };
        range = range.after(&last.key);
        let removals = stream::iter(page).map(|row| removal(turn_store, row)).buffered(READS);
        let stale: Vec<Option<Vec<Put>>> = removals.try_collect().await?;
        all(turn_store.write(stale.into_iter().flatten().collect()).await?)?;
    }
}

/// Removes a row that is of no instance, and those that were written with it, as long as that stays so.
async fn removal(turn_store: &TurnStore, row: Entry) -> Result<Option<Vec<Put>>> {
    // A newer version may know what this is.
    let Ok(listed) = history::decode_summary(&Payloads::default(), &row.value, &InstanceKey::new("index", "…"))
    else {
        return Ok(None);
    };
    let key = InstanceKey::new(&listed.workflow, &listed.id);
    let stored = turn_store.get(history::INSTANCES, key.stored()).await?;
    let mut kept = Indexed::default();
    let unchanged = match &stored {
        None => Put { space: history::INSTANCES, key: key.stored(), expect: Expect::Absent, value: None },
        Some((version, value)) => match history::decode_summary(turn_store.payloads(), value, &key) {
            Ok(summary) if !summary.indexed.0.contains(&row.key) => {
                kept = summary.indexed;
                unchanged(&key, *version, value)
            }
            _ => return Ok(None),
        },
    };
    let stale = listed.indexed.0.into_iter().filter(|row| !kept.0.contains(row)).map(|row| put(row, None));
    Ok(Some([unchanged].into_iter().chain(stale).collect()))
}

/// Writes the rows of the instances whose keys begin with this. How many they are.
async fn write_anew(turn_store: &TurnStore, prefix: &[u8]) -> Result<usize> {
    let mut range = ScanRange::prefix(history::INSTANCES, prefix.to_vec());
    let mut written = 0;
    loop {
        let page = turn_store.scan(range.clone(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(written) };
        range = range.after(&last.key);
        written += page.len();
        let groups = page.iter().filter_map(|Entry { version, value, .. }| {
            let of = |key: &InstanceKey| history::decode_summary(turn_store.payloads(), value, key);
            let mut summary = of(&InstanceKey::new("index", "…")).ok()?;
            let key = InstanceKey::new(&summary.workflow, &summary.id);
            let mut unit = Unit { put: vec![unchanged(&key, *version, value)], ..Unit::default() };
            update(&mut unit, &mut summary, |unit, put| unit.put.push(put));
            Some(unit.put)
        });
        all(turn_store.write(groups.collect()).await?)?;
    }
}

/// Holds a turn of the instance off that would be written at the same time: the summary stays as it is.
fn unchanged(key: &InstanceKey, version: Version, value: &Bytes) -> Put {
    let expect = Expect::Version(version);
    Put { space: history::INSTANCES, key: key.stored(), expect, value: Some(value.clone()) }
}

/// An instance that has changed meanwhile has written its rows itself.
fn all(results: Vec<Result<()>>) -> Result<()> {
    results.into_iter().filter(|result| !matches!(result, Err(error) if error.kind() == ErrorKind::Conflict)).collect()
}
