//! Which topics are known to exist; declares the others before anything is sent to them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use partitura_broker::{Broker, InboxAddress, Timestamp, Topology};
use serde::Serialize;
use tokio::sync::OnceCell;

use crate::wire::Payloads;
use crate::wire::names::{ServiceTopics, WorkflowTopics};
use crate::wire::namespace::Namespace;

/// How far the broker's clock may be behind before it refuses a delay up to its horizon.
const CLOCKS_DIFFER_BY: Duration = Duration::from_secs(3_600);

/// A workflow or a service: what commands or tasks are sent to. Its text is `workflow/Checkout`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// The service of this name.
    Service(String),
    /// The workflow of this name.
    Workflow(String),
}

impl Destination {
    /// The kind, `workflow` or `service`, and the name.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Service(name) => ("service", name),
            Self::Workflow(name) => ("workflow", name),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, name) = self.parts();
        write!(f, "{what}/{name}")
    }
}

/// A text that names neither a workflow nor a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names neither a workflow nor a service; write workflow/NAME or service/NAME")]
pub struct InvalidDestination(String);

impl FromStr for Destination {
    type Err = InvalidDestination;

    fn from_str(text: &str) -> Result<Self, InvalidDestination> {
        match text.split_once('/') {
            Some(("workflow", name)) if !name.is_empty() => Ok(Self::Workflow(name.to_owned())),
            Some(("service", name)) if !name.is_empty() => Ok(Self::Service(name.to_owned())),
            _ => Err(InvalidDestination(text.chars().take(200).collect())),
        }
    }
}

/// Knows the topics of workflows and services, and declares each once per process.
#[derive(Debug)]
pub(crate) struct Directory {
    broker: Arc<dyn Broker>,
    namespace: Namespace,
    partitions: u32,
    payloads: Payloads,
    time_at: OnceLock<InboxAddress>,
    workflows: RwLock<HashMap<String, WorkflowTopics>>,
    services: RwLock<HashMap<String, ServiceTopics>>,
    declared: Mutex<HashMap<Destination, Arc<OnceCell<()>>>>,
    served: Mutex<HashSet<Destination>>,
}

impl Directory {
    pub(crate) fn new(broker: Arc<dyn Broker>, namespace: Namespace, partitions: u32) -> Self {
        let (workflows, services, declared, served) = Default::default();
        let (payloads, time_at) = (Payloads::default(), OnceLock::new());
        Self { broker, namespace, partitions, payloads, time_at, workflows, services, declared, served }
    }

    /// Has payloads written like this.
    pub(crate) fn payloads_by(self, payloads: Payloads) -> Self {
        Self { payloads, ..self }
    }

    /// How payloads are written and read.
    pub(crate) fn payloads(&self) -> &Payloads {
        &self.payloads
    }

    /// Has those who get tasks from here ask at this inbox for the time.
    pub(crate) fn tell_time_at(&self, inbox: InboxAddress) {
        // It is the same each time.
        let _ = self.time_at.set(inbox);
    }

    /// Where to ask for the time, if here.
    pub(crate) fn time_at(&self) -> Option<&str> {
        self.time_at.get().map(InboxAddress::as_str)
    }

    /// How many partitions an ordered topic has.
    pub(crate) fn partitions(&self) -> u32 {
        self.partitions
    }

    /// How many bytes the payload of a message may have.
    pub(crate) fn payload_limit(&self) -> usize {
        self.broker.capabilities().limits.payload
    }

    /// The latest moment, seen from `now`, for which a message can be delayed for certain. The broker's clock may be an
    /// hour behind.
    pub(crate) fn horizon(&self, now: Timestamp) -> Timestamp {
        let longest = self.broker.capabilities().delay.max;
        now + longest.saturating_sub(CLOCKS_DIFFER_BY.min(longest / 10))
    }

    /// The topics of a workflow, declared or not.
    pub(crate) fn workflow(&self, name: &str) -> partitura_broker::Result<WorkflowTopics> {
        remembered(&self.workflows, name, |name| WorkflowTopics::new(&self.namespace, name))
    }

    /// The topics of a service, declared or not.
    pub(crate) fn service(&self, name: &str) -> partitura_broker::Result<ServiceTopics> {
        remembered(&self.services, name, |name| ServiceTopics::new(&self.namespace, name))
    }

    fn declared(&self) -> MutexGuard<'_, HashMap<Destination, Arc<OnceCell<()>>>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn knows(&self, destination: &Destination) -> bool {
        self.declared().get(destination).is_some_and(|once| once.initialized())
    }

    /// Declares the topics of what a worker of this process runs.
    pub(crate) async fn serve(&self, destination: Destination) -> partitura_broker::Result<()> {
        self.declare(&destination).await?;
        self.served.lock().unwrap_or_else(PoisonError::into_inner).insert(destination);
        Ok(())
    }

    /// Declares the topics of somebody that something is sent to for the first time.
    pub(crate) async fn meet(&self, stranger: &Destination) -> partitura_broker::Result<()> {
        if !self.served.lock().unwrap_or_else(PoisonError::into_inner).contains(stranger) {
            let (kind, name) = stranger.parts();
            tracing::info!(
                "no worker of this process runs the {kind} {name}: what is sent to it waits until a worker does"
            );
        }
        self.declare(stranger).await
    }

    /// The topics of a destination, with their subscriptions.
    pub(crate) fn topology(&self, destination: &Destination) -> partitura_broker::Result<Topology> {
        match destination {
            Destination::Service(name) => self.service(name)?.topology(self.partitions),
            Destination::Workflow(name) => self.workflow(name)?.topology(self.partitions),
        }
    }

    /// Declares the topics of a destination, unless this process did so before. Of many who ask at once, one declares
    /// and the others wait: brokers take their time over it.
    pub(crate) async fn declare(&self, destination: &Destination) -> partitura_broker::Result<()> {
        if self.knows(destination) {
            return Ok(());
        }
        let once = self.declared().entry(destination.clone()).or_default().clone();
        once.get_or_try_init(|| async { self.broker.declare(&self.topology(destination)?).await }).await.copied()
    }
}

/// Names are checked and put together once; after that they are shared.
fn remembered<T: Clone>(
    known: &RwLock<HashMap<String, T>>,
    name: &str,
    make: impl FnOnce(&str) -> partitura_broker::Result<T>,
) -> partitura_broker::Result<T> {
    if let Some(found) = known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
        return Ok(found.clone());
    }
    let made = make(name)?;
    known.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), made.clone());
    Ok(made)
}
