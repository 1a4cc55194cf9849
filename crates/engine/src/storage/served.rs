//! Which workflows and services workers serve or have served: a row for each, written when a worker starts. Operators
//! ask for it, and nothing else does.

use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{Expect, Put, Result, ScanRange, Space, Timestamp};
use serde::{Deserialize, Serialize};

use crate::messaging::directory::Destination;
use crate::storage::turn_store::TurnStore;
use crate::wire;

const SERVED: Space = "served";
const FORMAT: u32 = 1;
/// How many are read at most.
const MOST: usize = 10_000;
/// How long the start of a worker waits for its note.
const NOTE_WITHIN: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
struct Row {
    format: u32,
    build: String,
    at: u64,
}

/// A workflow or a service that a worker has served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Served {
    /// The service or workflow.
    pub destination: Destination,
    /// The build of the worker that started last, of those that serve it.
    pub build: String,
    /// When that worker started, in milliseconds since the Unix epoch.
    pub since: u64,
}

impl Served {
    /// Something that no worker has ever served.
    pub fn never(destination: Destination) -> Self {
        Self { destination, build: String::new(), since: 0 }
    }
}

fn key(destination: &Destination) -> Bytes {
    let (kind, name) = match destination {
        Destination::Service(name) => (b"s", name),
        Destination::Workflow(name) => (b"w", name),
    };
    [kind, name.as_bytes()].concat().into()
}

/// Notes that a worker of this build begins to serve these. Workers work without that, too: also without a store, if
/// they only run services.
pub(crate) async fn note(turn_store: &TurnStore, all: &[Destination], build: &str, at: Timestamp) {
    if all.is_empty() {
        return;
    }
    let value = wire::encode(&Row { format: FORMAT, build: build.to_owned(), at: at.as_millis() });
    let put = |of| Put { space: SERVED, key: key(of), expect: Expect::Any, value: Some(value.clone()) };
    let written =
        async { turn_store.write(vec![all.iter().map(put).collect()]).await?.into_iter().collect::<Result<()>>() };
    match tokio::time::timeout(NOTE_WITHIN, written).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "what this worker serves was not noted"),
        Err(_) => tracing::debug!(limit = ?NOTE_WITHIN, "what this worker serves was not noted in time"),
    }
}

/// Whether a worker has ever served this.
///
/// # Errors
/// Those of the store.
pub(crate) async fn is_known(turn_store: &TurnStore, destination: &Destination) -> Result<bool> {
    Ok(turn_store.get(SERVED, key(destination)).await?.is_some())
}

/// All of them, services first, each kind by name.
///
/// # Errors
/// Those of the store.
pub(crate) async fn all(turn_store: &TurnStore) -> Result<Vec<Served>> {
    let rows = turn_store.scan(ScanRange::prefix(SERVED, Bytes::new()), MOST).await?;
    let read = |key: &[u8], value: &Bytes| {
        let (kind, name) = key.split_first()?;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        let destination = match kind {
            b's' => Destination::Service(name),
            b'w' => Destination::Workflow(name),
            _ => return None,
        };
        // A newer version may have other rows.
        let Row { build, at, .. } = wire::decode(value).ok()?;
        Some(Served { destination, build, since: at })
    };
    Ok(rows.iter().filter_map(|row| read(&row.key, &row.value)).collect())
}
