//! Which topics are known to exist; declares the others before anything is sent to them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use partitura_broker::{Broker, Result};

use crate::names::{ServiceTopics, WorkflowTopics};

/// Somebody that commands are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Destination {
    Service(String),
    Workflow(String),
}

/// Declares topics once per process.
#[derive(Debug)]
pub(crate) struct Directory {
    broker: Arc<dyn Broker>,
    partitions: u32,
    declared: Mutex<HashSet<Destination>>,
}

impl Directory {
    pub(crate) fn new(broker: Arc<dyn Broker>, partitions: u32) -> Self {
        Self { broker, partitions, declared: Mutex::default() }
    }

    fn declared(&self) -> MutexGuard<'_, HashSet<Destination>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many partitions an ordered topic has.
    pub(crate) fn partitions(&self) -> u32 {
        self.partitions
    }

    pub(crate) fn knows(&self, destination: &Destination) -> bool {
        self.declared().contains(destination)
    }

    /// Declares the topics of a destination, unless this process did so before.
    pub(crate) async fn declare(&self, destination: &Destination) -> Result<()> {
        if self.knows(destination) {
            return Ok(());
        }
        let topology = match destination {
            Destination::Service(name) => ServiceTopics::new(name)?.topology(self.partitions)?,
            Destination::Workflow(name) => WorkflowTopics::new(name)?.topology(self.partitions)?,
        };
        self.broker.declare(&topology).await?;
        self.declared().insert(destination.clone());
        Ok(())
    }
}
