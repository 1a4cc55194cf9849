//! The shared state of the tasks of one service that run in this process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use partitura_broker::{Broker, Capabilities, Clock, Producer};
use partitura_workflow::Service;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::batches::Batches;
use super::limits::Limits;
use super::running::Running;
use crate::layer::Layers;
use crate::messaging::directory::Directory;
use crate::messaging::mailbox::Mailbox;
use crate::shutdown::Shutdown;
use crate::storage::crashes::Crashes;
use crate::storage::pauses::Pauses;
use crate::storage::turn_store::TurnStore;
use crate::telemetry::propagator::Propagation;
use crate::timekeeper::Timekeeper;
use crate::wire::events::EventTopic;
use crate::wire::ids::Ids;
use crate::wire::names::ServiceTopics;

/// Runs the tasks of one service.
#[derive(Clone)]
pub(crate) struct TaskRunner(pub(super) Arc<Inner>);

/// The parts that are needed to run tasks.
pub(crate) struct Parts {
    pub(crate) service: Box<dyn Service>,
    pub(crate) topics: ServiceTopics,
    pub(crate) turn_store: TurnStore,
    pub(crate) producer: Box<dyn Producer>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) time: Arc<Timekeeper>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) events: EventTopic,
    pub(crate) propagation: Propagation,
    pub(crate) capabilities: Capabilities,
    /// Which build of the program this is.
    pub(crate) build: Arc<str>,
    /// For how long another process is looked for that knows what this one does not.
    pub(crate) elsewhere: Duration,
    /// How many tasks run at a time.
    pub(crate) concurrency: usize,
    /// Of all tasks of the worker.
    pub(crate) limits: Arc<Limits>,
    pub(crate) crashes: Crashes,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) layers: Layers,
    pub(crate) shutdown: Shutdown,
}

pub(super) struct Inner {
    parts: Parts,
    pub(super) running: Running,
    pub(super) batches: Batches,
    /// Bounds the tasks that run, whether their deliveries are held or not.
    pub(super) places: Arc<Semaphore>,
    /// For tasks of paused methods that wait here: the others of the service need the rest.
    pub(super) paused: Semaphore,
    /// Tasks whose deliveries were settled before they ended.
    pub(super) detached: Arc<Mutex<JoinSet<()>>>,
}

impl std::ops::Deref for TaskRunner {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

impl TaskRunner {
    pub(crate) fn new(parts: Parts) -> Self {
        let places = Arc::new(Semaphore::new(parts.concurrency));
        let paused = Semaphore::new(parts.concurrency / 2);
        Self(Arc::new(Inner {
            parts,
            running: Running::default(),
            batches: Batches::default(),
            places,
            paused,
            detached: Arc::default(),
        }))
    }
}
