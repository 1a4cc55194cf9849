//! The shared state of workers, clients and subscriptions of one connection.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Broker, Clock};
use partitura_lanes::Trials;

use crate::client::Client;
use crate::health::Workers;
use crate::layer::Layers;
use crate::messaging::directory::Directory;
use crate::messaging::mailbox::Mailbox;
use crate::storage::crashes::Crashes;
use crate::storage::pauses::Pauses;
use crate::storage::store::Store;
use crate::storage::turn_store::TurnStore;
use crate::task::rates::Rates;
use crate::telemetry::propagator::Propagation;
use crate::timekeeper::Timekeeper;
use crate::wire::ids::Ids;
use crate::wire::namespace::Namespace;
use crate::workflow::history_limits::HistoryLimits;
use crate::workflow::retention::Retention;

/// The shared state of one connection to a broker and a store.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Option<Arc<dyn Store>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) time: Arc<Timekeeper>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) namespace: Namespace,
    pub(crate) directory: Arc<Directory>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    pub(crate) propagation: Propagation,
    pub(crate) workers: Workers,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) layers: Layers,
}

impl Core {
    /// Counts the crashes of tasks or turns, where there is a store.
    pub(crate) fn crashes(&self) -> Crashes {
        let stored = TurnStore::of_client(&self.broker, self.store.clone(), self.namespace.clone());
        Crashes::new(stored, self.settings.crashes, self.settings.trials.clone())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) cache: NonZeroUsize,
    pub(crate) events: bool,
    pub(crate) drain_within: Duration,
    pub(crate) replay_values: ReplayValues,
    pub(crate) history_limits: HistoryLimits,
    pub(crate) retention: Retention,
    /// With how many crashes a task or a command is given up; 0: it never is.
    pub(crate) crashes: u32,
    pub(crate) trials: Trials,
    pub(crate) ask_again: Duration,
    /// How long to wait for the broker.
    pub(crate) wait: Duration,
}

/// The reaction to an instance whose replay shows that its code asks for the same as before with other values: other
/// arguments of a task, another input of a child, another payload of a signal, another duration. Its code is not
/// deterministic (a loop over a `HashMap`, say) or was changed; what is recorded counts, and was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayValues {
    /// Log a warning with both values, and go on.
    #[default]
    Warn,
    /// Stop the instance, as where it asks for something else. [`TestEnv`](https://docs.rs/partitura) does.
    Stop,
}
