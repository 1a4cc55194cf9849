//! How instances are kept in the store: one row per turn, and one summary.

use bytes::Bytes;
use partitura_broker::{Entry, Error, ErrorKind, Expect, Partition, Put, Result, ScanRange, Space, Version};
use partitura_workflow::{Event, HISTORY_FORMAT};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::storage::index_keys;
use crate::storage::turn_store::{HISTORY, TurnStore};
use crate::wire::names::InstanceKey;
use crate::wire::payloads::Read;
use crate::wire::summary::Summary;
use crate::wire::{self, Payloads};

/// `workflow NUL id` → the summary of the latest run.
pub(crate) const INSTANCES: Space = "instances";
/// `workflow NUL partition id` of the instances that are stopped → the code that tried them last.
const STOPPED: Space = "stopped";

/// How many rows are read at a time.
const PAGE: usize = 1_000;

/// A value as it is stored: with the version of its format.
#[derive(Serialize, Deserialize)]
struct Row<T> {
    format: u32,
    /// Which build of the program has written it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    build: Option<String>,
    /// A turn: how many events the run has before it. None before the first turn, and in turns of before this was
    /// recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<usize>,
    body: T,
}

/// The key under which all turns of a run are kept, or those of all runs of the instance.
pub(crate) fn turns_prefix(key: &InstanceKey, run: Option<&str>) -> Bytes {
    let of_instance = || [key.workflow.as_bytes(), b"\0", key.id.as_bytes(), b"\0"].concat().into();
    run.map_or_else(of_instance, |run| run_prefix(key, run))
}

/// The key under which all turns of a run are kept; also the prefix of its outbox rows.
pub(crate) fn run_prefix(key: &InstanceKey, run: &str) -> Bytes {
    [key.workflow.as_bytes(), b"\0", key.id.as_bytes(), b"\0", run.as_bytes(), b"\0"].concat().into()
}

/// The key of a turn.
pub(super) fn turn_key(key: &InstanceKey, run: &str, turn: u32) -> Bytes {
    [&run_prefix(key, run)[..], &turn.to_be_bytes()].concat().into()
}

/// Where a turn stands in its run.
pub(crate) struct Place<'a> {
    /// Counted from 0.
    pub(crate) turn: u32,
    /// How many events are before it, where that is known and not 0.
    pub(crate) before: Option<usize>,
    /// The build that takes it.
    pub(crate) build: &'a str,
}

/// Appends a turn. This is the fence: the row must not exist yet.
pub(crate) fn append(
    payloads: &Payloads,
    key: &InstanceKey,
    run: &str,
    Place { turn, before, build }: Place<'_>,
    events: &[Event],
) -> Put {
    let build = Some(build.to_owned());
    let value = payloads.encode(&Row { format: HISTORY_FORMAT, build, before, body: events });
    Put { space: HISTORY, key: turn_key(key, run, turn), expect: Expect::Absent, value: Some(value) }
}

/// A summary, as it is stored.
pub(crate) fn encode_summary(payloads: &Payloads, summary: &Summary) -> Bytes {
    payloads.encode(&Row { format: HISTORY_FORMAT, build: None, before: None, body: summary })
}

/// Reads a summary that is stored, also as a row of the index.
pub(crate) fn decode_summary(payloads: &Payloads, value: &Bytes, key: &InstanceKey) -> Result<Summary> {
    let mut summary: Summary = decode(payloads, value, key)?.value;
    summary.indexed = index_keys::indexed(&summary);
    Ok(summary)
}

/// Writes the summary.
pub(crate) fn summarize(payloads: &Payloads, key: &InstanceKey, expect: Expect, summary: &Summary) -> Put {
    Put { space: INSTANCES, key: key.stored(), expect, value: Some(encode_summary(payloads, summary)) }
}

/// Forgets an instance that has ended, if its summary is still of this version.
pub(crate) fn forget(key: &InstanceKey, version: Version) -> Put {
    Put { space: INSTANCES, key: key.stored(), expect: Expect::Version(version), value: None }
}

/// Deletes up to `most` turns of a run, or of all runs of the instance, and says whether there may be more.
///
/// # Errors
/// Those of the store.
pub(crate) async fn delete_turns(
    turn_store: &TurnStore,
    key: &InstanceKey,
    run: Option<&str>,
    most: usize,
) -> Result<(Vec<Put>, bool)> {
    let page = turn_store.scan(ScanRange::prefix(HISTORY, turns_prefix(key, run)), most).await?;
    let more = page.len() == most;
    let delete = |row: Entry| Put { space: HISTORY, key: row.key, expect: Expect::Any, value: None };
    Ok((page.into_iter().map(delete).collect(), more))
}

/// Notes which code tried the instance without success, or that it is no longer stopped.
pub(crate) fn mark_stopped(key: &InstanceKey, partition: Partition, by: Option<&str>) -> Put {
    let value = by.map(|code| Bytes::copy_from_slice(code.as_bytes()));
    let key = [&stopped_in(&key.workflow, partition)[..], key.id.as_bytes()].concat().into();
    Put { space: STOPPED, key, expect: Expect::Any, value }
}

fn stopped_in(workflow: &str, partition: Partition) -> Bytes {
    [workflow.as_bytes(), b"\0", &partition.0.to_be_bytes()].concat().into()
}

/// The summary of the latest run with its version in the store, if there ever was one.
pub(crate) async fn summary(turn_store: &TurnStore, key: &InstanceKey) -> Result<Option<(Version, Summary)>> {
    let found = turn_store.get(INSTANCES, key.stored()).await?;
    found.map(|(version, value)| Ok((version, decode_summary(turn_store.payloads(), &value, key)?))).transpose()
}

/// Whether the summary is still the one of this version.
pub(crate) async fn is_latest(turn_store: &TurnStore, key: &InstanceKey, version: Version) -> Result<bool> {
    let found = turn_store.get(INSTANCES, key.stored()).await?;
    Ok(found.is_some_and(|(stored, _)| stored == version))
}

/// The history of a run.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) events: Vec<Event>,
    pub(crate) turns: u32,
    /// How much it takes in the store.
    pub(crate) bytes: usize,
    /// Why the first of its payloads is still encoded that could not be decoded: no code may run by it.
    pub(crate) unreadable: Option<String>,
}

/// Reads the history of a run.
pub(crate) async fn load(turn_store: &TurnStore, key: &InstanceKey, run: &str) -> Result<History> {
    let mut history = History::default();
    read(turn_store, key, run, |Read { value: mut events, unreadable }, bytes| {
        history.events.append(&mut events);
        history.unreadable = history.unreadable.take().or(unreadable);
        history.turns += 1;
        history.bytes += bytes;
    })
    .await?;
    Ok(history)
}

/// Reads the events of a run turn by turn, without having all of them in memory.
pub(crate) async fn events(
    turn_store: &TurnStore,
    key: &InstanceKey,
    run: &str,
    mut each: impl FnMut(&Event),
) -> Result<()> {
    read(turn_store, key, run, |turn, _| turn.value.iter().for_each(&mut each)).await
}

/// Reads the turns of a run one after the other, each with the size of its row.
async fn read(
    turn_store: &TurnStore,
    key: &InstanceKey,
    run: &str,
    mut each: impl FnMut(Read<Vec<Event>>, usize),
) -> Result<()> {
    let mut range = ScanRange::prefix(HISTORY, run_prefix(key, run));
    loop {
        let page = turn_store.scan(range.clone(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        range = range.after(&last.key);
        let full = page.len() == PAGE;
        for row in page {
            each(decode::<Vec<Event>>(turn_store.payloads(), &row.value, key)?, row.value.len());
        }
        if !full {
            return Ok(());
        }
    }
}

/// A turn as it is stored: a long one is not read whole for a few of its events.
pub(crate) struct StoredTurn {
    /// How many events are before it; `None` where that was not recorded.
    pub(crate) before: Option<usize>,
    events: Box<RawValue>,
}

impl StoredTurn {
    /// Reads turn number `turn` from its row.
    pub(crate) fn read(payloads: &Payloads, key: &InstanceKey, turn: u32, value: &Bytes) -> Result<Self> {
        let Read { value: row, .. } = decode_row::<Box<RawValue>>(payloads, value, key)?;
        let Row { before, body: events, .. } = row;
        Ok(Self { before: before.or((turn == 0).then_some(0)), events })
    }

    pub(crate) fn len(&self, key: &InstanceKey) -> Result<usize> {
        let events: Vec<IgnoredAny> =
            wire::decode(self.events.get().as_bytes()).map_err(|error| corrupt(key, error))?;
        Ok(events.len())
    }

    /// Its events whose places in the turn are `wanted`.
    pub(crate) fn events(
        &self,
        payloads: &Payloads,
        key: &InstanceKey,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Vec<Event>> {
        let all: Vec<&RawValue> = serde_json::from_str(self.events.get()).map_err(|error| corrupt(key, error))?;
        let wanted = all.into_iter().enumerate().filter(|(place, _)| wanted(*place));
        let event = |(_, raw): (usize, &RawValue)| payloads.decode::<Event>(raw.get().as_bytes());
        wanted.map(event).collect::<std::result::Result<_, _>>().map_err(|error| corrupt(key, error))
    }
}

/// A turn, if it exists.
pub(super) async fn turn(
    turn_store: &TurnStore,
    (key, run): (&InstanceKey, &str),
    turn: u32,
) -> Result<Option<StoredTurn>> {
    let Some((_, value)) = turn_store.get(HISTORY, turn_key(key, run, turn)).await? else { return Ok(None) };
    StoredTurn::read(turn_store.payloads(), key, turn, &value).map(Some)
}

/// The builds that took the turns of a run, in the order of their first. Turns of before this was recorded have none.
pub(crate) async fn builds(turn_store: &TurnStore, key: &InstanceKey, run: &str) -> Result<Vec<String>> {
    let mut range = ScanRange::prefix(HISTORY, run_prefix(key, run));
    let mut builds: Vec<String> = Vec::new();
    loop {
        let page = turn_store.scan(range.clone(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(builds) };
        range = range.after(&last.key);
        let rows = page.iter().filter_map(|row| wire::decode::<Row<IgnoredAny>>(&row.value).ok());
        for build in rows.filter_map(|row| row.build) {
            if !builds.contains(&build) {
                builds.push(build);
            }
        }
    }
}

/// How many turns a run has, whatever is in them.
pub(crate) async fn turns(turn_store: &TurnStore, key: &InstanceKey, run: &str) -> Result<u32> {
    let prefix = run_prefix(key, run);
    let mut range = ScanRange::prefix(HISTORY, prefix.clone());
    let mut turns = 0;
    loop {
        let page = turn_store.scan(range.clone(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(turns) };
        let number = last.key.get(prefix.len()..).and_then(|turn| turn.try_into().ok()).map(u32::from_be_bytes);
        turns = number.map_or(turns, |number| number + 1);
        range = range.after(&last.key);
    }
}

/// Whether a run was ever started.
pub(crate) async fn exists(turn_store: &TurnStore, key: &InstanceKey, run: &str) -> Result<bool> {
    Ok(!turn_store.scan(ScanRange::prefix(HISTORY, run_prefix(key, run)), 1).await?.is_empty())
}

/// Whether there is an instance of a workflow.
pub(crate) async fn has_instances(turn_store: &TurnStore, workflow: &str) -> Result<bool> {
    let range = ScanRange::prefix(INSTANCES, [workflow.as_bytes(), b"\0"].concat());
    Ok(!turn_store.scan(range, 1).await?.is_empty())
}

/// A page of the summaries of a workflow's instances behind the id `after`, in the order of their ids' bytes, and
/// whether there may be more.
pub(crate) async fn page(turn_store: &TurnStore, workflow: &str, after: Option<&str>) -> Result<(Vec<Summary>, bool)> {
    let mut range = ScanRange::prefix(INSTANCES, [workflow.as_bytes(), b"\0"].concat());
    if let Some(id) = after {
        range = range.after(&InstanceKey::new(workflow, id).stored());
    }
    let page = turn_store.scan(range, PAGE).await?;
    let more = page.len() == PAGE;
    let key = InstanceKey::new(workflow, "…");
    let summary = |entry: &Entry| Ok(decode(turn_store.payloads(), &entry.value, &key)?.value);
    let summaries = page.iter().map(summary).collect::<Result<_>>()?;
    Ok((summaries, more))
}

/// Up to `most` stopped instances of a partition behind the id `after`, each with the code that tried it last.
pub(crate) async fn stopped(
    turn_store: &TurnStore,
    (workflow, partition): (&str, Partition),
    after: Option<&str>,
    most: usize,
) -> Result<Vec<(String, Bytes)>> {
    let prefix = stopped_in(workflow, partition);
    let mut range = ScanRange::prefix(STOPPED, prefix.clone());
    if let Some(id) = after {
        range = range.after(&[&prefix[..], id.as_bytes()].concat());
    }
    let page = turn_store.scan(range, most).await?;
    let id = |key: &Bytes| String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
    Ok(page.into_iter().map(|entry| (id(&entry.key), entry.value)).collect())
}

fn corrupt(key: &InstanceKey, error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "load", format!("what is stored of it cannot be read: {error}")).of(key)
}

fn decode<T: DeserializeOwned>(payloads: &Payloads, value: &Bytes, key: &InstanceKey) -> Result<Read<T>> {
    let Read { value, unreadable } = decode_row(payloads, value, key)?;
    Ok(Read { value: value.body, unreadable })
}

fn decode_row<T: DeserializeOwned>(payloads: &Payloads, value: &Bytes, key: &InstanceKey) -> Result<Read<Row<T>>> {
    // The format comes first: a newer one may have another body.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    match payloads.read::<Row<T>>(value) {
        Ok(read) if read.value.format <= HISTORY_FORMAT => return Ok(read),
        Ok(_) => {}
        Err(error) => match wire::decode::<Format>(value) {
            Ok(Format { format }) if format > HISTORY_FORMAT => {}
            _ => return Err(corrupt(key, error)),
        },
    }
    let message = format!(
        "its history was written by a newer Partitura, this program reads up to format {HISTORY_FORMAT}: update this \
         worker"
    );
    Err(Error::new(ErrorKind::Incompatible, "load", message).of(key))
}
