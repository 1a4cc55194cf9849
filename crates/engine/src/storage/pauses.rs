//! The pauses of operators: a row for each workflow, service and method. Workers read the rows when there is work to do
//! and what they know is no longer fresh, and never at rest.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{Expect, Put, Result, ScanRange, Space, Version};
use partitura_workflow::{ServiceStub, Workflow};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use crate::storage::turn_store::TurnStore;
use crate::wire;

const PAUSES: Space = "pauses";
const FORMAT: u32 = 1;
/// How many are read at most.
const MOST: usize = 10_000;
/// How old the rows may be by which a worker begins something: after this time every worker heeds a pause.
pub(crate) const HEEDED_WITHIN: Duration = Duration::from_secs(2);
/// How long a reading may take. After that the worker goes by what it knew.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// The things that can be [paused](crate::Client::pause) beside single instances. Its text is `workflow/Checkout`,
/// `service/Payments` or `service/Payments/charge`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
#[non_exhaustive]
pub enum Pausable {
    /// All instances of the workflow of this name.
    Workflow(String),
    /// All tasks of the service of this name.
    Service(String),
    /// All tasks of one method.
    Method {
        /// The service's name.
        service: String,
        /// The method's name.
        method: String,
    },
}

impl Pausable {
    /// All instances of the workflow `W`.
    pub fn workflow<W: Workflow>() -> Self {
        Self::Workflow(W::NAME.to_owned())
    }

    /// All tasks of a service: `Pausable::service::<PaymentsStub>()`.
    pub fn service<S: ServiceStub>() -> Self {
        Self::Service(S::NAME.to_owned())
    }

    /// All tasks of one method of a service.
    pub fn method<S: ServiceStub>(method: impl Into<String>) -> Self {
        Self::Method { service: S::NAME.to_owned(), method: method.into() }
    }

    fn key(&self) -> Bytes {
        let (kind, name) = match self {
            Self::Workflow(name) => (b"w", name.clone()),
            Self::Service(name) => (b"s", name.clone()),
            Self::Method { service, method } => (b"m", format!("{service}\0{method}")),
        };
        [kind, name.as_bytes()].concat().into()
    }

    fn of_key(key: &[u8]) -> Option<Self> {
        let (kind, name) = key.split_first()?;
        let name = std::str::from_utf8(name).ok()?;
        match kind {
            b'w' => Some(Self::Workflow(name.to_owned())),
            b's' => Some(Self::Service(name.to_owned())),
            b'm' => {
                let (service, method) = name.split_once('\0')?;
                Some(Self::Method { service: service.to_owned(), method: method.to_owned() })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Pausable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workflow(name) => write!(f, "workflow/{name}"),
            Self::Service(name) => write!(f, "service/{name}"),
            Self::Method { service, method } => write!(f, "service/{service}/{method}"),
        }
    }
}

impl From<Pausable> for String {
    fn from(paused: Pausable) -> Self {
        paused.to_string()
    }
}

/// A text that names nothing that can be paused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names nothing that can be paused; write workflow/NAME, service/NAME or service/NAME/METHOD")]
pub struct InvalidPausable(String);

impl FromStr for Pausable {
    type Err = InvalidPausable;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidPausable> {
        let parts: Vec<&str> = text.split('/').collect();
        match *parts {
            ["workflow", name] if !name.is_empty() => Ok(Self::Workflow(name.to_owned())),
            ["service", name] if !name.is_empty() => Ok(Self::Service(name.to_owned())),
            ["service", service, method] if !service.is_empty() && !method.is_empty() => {
                Ok(Self::Method { service: service.to_owned(), method: method.to_owned() })
            }
            _ => Err(InvalidPausable(text.chars().take(200).collect())),
        }
    }
}

/// A workflow, a service or a method that is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Paused {
    /// The pauses.
    pub what: Pausable,
    /// Why, for people.
    pub reason: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
    /// It is resumed already, but not all of its instances were asked to go on: the caller that resumed it was
    /// interrupted. Resume it again.
    pub is_ending: bool,
}

#[derive(Serialize, Deserialize)]
struct Row {
    format: u32,
    reason: String,
    since: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ending: bool,
}

/// Writes that something is paused, or is about to be no longer.
pub(crate) async fn put(turn_store: &TurnStore, paused: &Paused, expect: Expect) -> Result<()> {
    let Paused { what, reason, since, is_ending } = paused;
    let row = Row { format: FORMAT, reason: reason.clone(), since: *since, ending: *is_ending };
    write(turn_store, what, expect, Some(wire::encode(&row))).await
}

/// Removes a row of this version.
pub(crate) async fn remove(turn_store: &TurnStore, what: &Pausable, version: Version) -> Result<()> {
    write(turn_store, what, Expect::Version(version), None).await
}

async fn write(turn_store: &TurnStore, what: &Pausable, expect: Expect, value: Option<Bytes>) -> Result<()> {
    let put = Put { space: PAUSES, key: what.key(), expect, value };
    turn_store.write(vec![vec![put]]).await?.into_iter().collect()
}

/// Whether something is paused, and the version of its row.
///
/// # Errors
/// Those of the store.
pub(crate) async fn get(turn_store: &TurnStore, what: &Pausable) -> Result<Option<(Version, Paused)>> {
    let found = turn_store.get(PAUSES, what.key()).await?;
    Ok(found.and_then(|(version, value)| Some((version, read(&what.key(), &value)?))))
}

/// All rows, in the order of what they are about.
///
/// # Errors
/// Those of the store.
pub(crate) async fn all(turn_store: &TurnStore) -> Result<Vec<Paused>> {
    let rows = turn_store.scan(ScanRange::prefix(PAUSES, Bytes::new()), MOST).await?;
    Ok(rows.iter().filter_map(|row| read(&row.key, &row.value)).collect())
}

/// `None`: a newer version wrote it, which may have other rows.
fn read(key: &[u8], value: &Bytes) -> Option<Paused> {
    let Row { reason, since, ending, .. } = wire::decode(value).ok()?;
    Some(Paused { what: Pausable::of_key(key)?, reason, since, is_ending: ending })
}

/// The knowledge of a process about pauses.
#[derive(Debug)]
pub(crate) struct Pauses {
    stored: TurnStore,
    known: Mutex<Known>,
    /// One reads, and the others wait for that.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// When the reading began, or failed.
    as_of: Option<Instant>,
    paused: Arc<[Paused]>,
}

impl Pauses {
    pub(crate) fn new(stored: TurnStore) -> Self {
        Self { stored, known: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// Why a workflow is paused, if it is.
    pub(crate) async fn of_workflow(&self, workflow: &str) -> Option<String> {
        let paused = self.fresh().await;
        reason(&paused, |what| matches!(what, Pausable::Workflow(name) if name == workflow))
    }

    /// As [`of_workflow`](Self::of_workflow), by what is stored now.
    pub(crate) async fn of_workflow_now(&self, workflow: &str) -> Result<Option<String>> {
        let paused = all(&self.stored).await?;
        Ok(reason(&paused, |what| matches!(what, Pausable::Workflow(name) if name == workflow)))
    }

    /// Whether the tasks of a service are paused: all, or those of this method.
    pub(crate) async fn of_task(&self, service: &str, method: &str) -> Option<Breadth> {
        let paused = self.fresh().await;
        let breadth = |paused: &Paused| match &paused.what {
            _ if paused.is_ending => None,
            Pausable::Service(name) if name == service => Some(Breadth::Service),
            Pausable::Method { service: name, method: of } if name == service && of == method => Some(Breadth::Method),
            _ => None,
        };
        paused.iter().filter_map(breadth).max()
    }

    /// Gives the pauses as they were stored within the last moments; as far as the store can be read.
    async fn fresh(&self) -> Arc<[Paused]> {
        if !self.stored.has_store() {
            return Arc::default();
        }
        if let Some(paused) = self.known() {
            return paused;
        }
        let _reading = self.reading.lock().await;
        if let Some(paused) = self.known() {
            return paused;
        }
        let mut as_of = Instant::now();
        let read = match timeout(READ_WITHIN, all(&self.stored)).await {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the store did not answer within {READ_WITHIN:?}")),
        };
        let mut known = self.lock();
        match read {
            Ok(paused) => known.paused = paused.into(),
            Err(error) => {
                tracing::warn!(error, "reading again what is paused; going by what was known");
                // The others that wait would fail, too, one after the other.
                as_of = Instant::now();
            }
        }
        known.as_of = Some(as_of);
        known.paused.clone()
    }

    fn known(&self) -> Option<Arc<[Paused]>> {
        let known = self.lock();
        known.as_of.filter(|as_of| as_of.elapsed() < HEEDED_WITHIN).map(|_| known.paused.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reason(paused: &[Paused], is: impl Fn(&Pausable) -> bool) -> Option<String> {
    paused.iter().find(|paused| !paused.is_ending && is(&paused.what)).map(|paused| paused.reason.clone())
}

/// How much of a service is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Breadth {
    /// One method: tasks of others run.
    Method,
    /// All of it.
    Service,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_paused_is_read_as_it_is_shown_and_as_it_is_stored() {
        for text in ["workflow/Checkout", "service/Payments", "service/Payments/charge"] {
            let what: Pausable = text.parse().expect("a name");
            assert_eq!(what.to_string(), text);
            assert_eq!(Pausable::of_key(&what.key()), Some(what));
        }
        for text in ["", "workflow/", "service//charge", "service/a/b/c", "queue/a", "workflow/a/b"] {
            text.parse::<Pausable>().expect_err(text);
        }
    }
}
