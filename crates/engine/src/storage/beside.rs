//! Rows that are kept beside the history of a run: one for each number, as `workflow NUL id NUL run NUL seq`.

use bytes::Bytes;
use partitura_broker::{Result, ScanRange, Space, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::storage::history::run_prefix;
use crate::storage::turn_store::TurnStore;
use crate::wire::Payloads;
use crate::wire::names::InstanceKey;

const FORMAT: u32 = 1;
/// How many rows are read at a time.
const PAGE: usize = 1_000;

/// A value as it is stored: with the version of its format.
#[derive(Serialize, Deserialize)]
struct Row<T> {
    format: u32,
    body: T,
}

/// The key of a number's row.
pub(crate) fn row(key: &InstanceKey, run: &str, seq: u32) -> Bytes {
    let mut row = run_prefix(key, run).to_vec();
    row.extend_from_slice(&seq.to_be_bytes());
    row.into()
}

/// The value of a row.
pub(crate) fn encode<T: Serialize>(payloads: &Payloads, body: &T) -> Bytes {
    payloads.encode(&Row { format: FORMAT, body })
}

/// Reads all rows of a run in a space. `None` instead of a value: a newer Partitura has written it.
///
/// # Errors
/// Those of the store.
pub(crate) async fn read<T: DeserializeOwned>(
    turn_store: &TurnStore,
    (space, key, run): (Space, &InstanceKey, &str),
    mut each: impl FnMut(Option<(u32, Version, T)>),
) -> Result<()> {
    let prefix = run_prefix(key, run);
    let mut range = ScanRange::prefix(space, prefix.clone());
    loop {
        let page = turn_store.scan(range.clone(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        range = range.after(&last.key);
        let full = page.len() == PAGE;
        for entry in page {
            let seq = entry.key.get(prefix.len()..).and_then(|seq| <[u8; 4]>::try_from(seq).ok());
            each(match (seq, turn_store.payloads().decode::<Row<T>>(&entry.value)) {
                (Some(seq), Ok(Row { format: FORMAT, body })) => Some((u32::from_be_bytes(seq), entry.version, body)),
                _ => None,
            });
        }
        if !full {
            return Ok(());
        }
    }
}
