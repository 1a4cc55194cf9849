//! When runs that have ended are deleted, in the order of that.

use bytes::Bytes;
use partitura_broker::{Expect, Partition, Put, Result, ScanRange, Space, Timestamp};

use crate::storage::turn_store::TurnStore;
use crate::wire::names::InstanceKey;

/// `workflow NUL partition due id NUL run` of each run that has ended and is not kept for ever.
const EXPIRIES: Space = "expiries";

/// A run that has ended, and when it is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) id: String,
    pub(crate) run: String,
    pub(crate) due: Timestamp,
}

fn prefix(workflow: &str, partition: Partition) -> Vec<u8> {
    [workflow.as_bytes(), b"\0", &partition.0.to_be_bytes()].concat()
}

fn row(workflow: &str, partition: Partition, Expiry { id, run, due }: &Expiry) -> Bytes {
    let mut row = prefix(workflow, partition);
    row.extend_from_slice(&due.as_millis().to_be_bytes());
    row.extend_from_slice(&[id.as_bytes(), b"\0", run.as_bytes()].concat());
    row.into()
}

/// Notes when a run is deleted.
pub(crate) fn put(workflow: &str, partition: Partition, expiry: &Expiry) -> Put {
    let key = row(workflow, partition, expiry);
    Put { space: EXPIRIES, key, expect: Expect::Any, value: Some(Bytes::new()) }
}

/// The run is deleted.
pub(crate) fn remove(workflow: &str, partition: Partition, expiry: &Expiry) -> Put {
    Put { space: EXPIRIES, key: row(workflow, partition, expiry), expect: Expect::Any, value: None }
}

/// Reads up to `most` expiries of a partition behind `after`, the earliest first.
///
/// # Errors
/// Those of the store.
pub(crate) async fn next(
    turn_store: &TurnStore,
    workflow: &str,
    partition: Partition,
    after: Option<&Expiry>,
    most: usize,
) -> Result<Vec<Expiry>> {
    let prefix = prefix(workflow, partition);
    let mut range = ScanRange::prefix(EXPIRIES, prefix.clone());
    if let Some(after) = after {
        range = range.after(&row(workflow, partition, after));
    }
    let page = turn_store.scan(range, most).await?;
    Ok(page.iter().filter_map(|entry| parse(entry.key.get(prefix.len()..)?)).collect())
}

fn parse(rest: &[u8]) -> Option<Expiry> {
    let (due, names) = rest.split_at_checked(size_of::<u64>())?;
    let (id, run) = std::str::from_utf8(names).ok()?.split_once('\0')?;
    let due = Timestamp::from_millis(u64::from_be_bytes(due.try_into().ok()?));
    Some(Expiry { id: id.to_owned(), run: run.to_owned(), due })
}

impl Expiry {
    pub(crate) fn new(key: &InstanceKey, run: &str, due: u64) -> Self {
        Self { id: key.id.to_string(), run: run.to_owned(), due: Timestamp::from_millis(due) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_survives_its_row_and_earlier_ones_come_first() {
        let expiry = |due, id: &str| Expiry { id: id.into(), run: "r".into(), due: Timestamp::from_millis(due) };
        let of = |expiry: &Expiry| row("W", Partition(3), expiry);
        let rest = of(&expiry(1_700_000_000_000, "a b/c"));
        assert_eq!(parse(&rest[prefix("W", Partition(3)).len()..]), Some(expiry(1_700_000_000_000, "a b/c")));
        assert!(of(&expiry(255, "z")) < of(&expiry(256, "a")));
        assert_eq!(parse(b"short"), None);
    }
}
