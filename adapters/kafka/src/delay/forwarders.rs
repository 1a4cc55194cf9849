use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use partitura_broker::{Result, TopicName};

use super::forwarder::{self, DelayForwarder};
use super::leases::Leases;
use super::memory::Memory;
use crate::core::Core;

/// The forwarders that run on a connection, and the memory that they share.
#[derive(Debug, Default)]
pub(crate) struct DelayForwarders {
    memory: Memory,
    running: Mutex<HashMap<TopicName, Weak<DelayForwarder>>>,
    leases: Mutex<Option<Arc<Leases>>>,
}

impl DelayForwarders {
    /// The forwarder of a topic, which runs for as long as it is held. Must be called within tokio's runtime.
    pub(crate) fn get(&self, core: &Arc<Core>, topic: &TopicName) -> Result<Arc<DelayForwarder>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(forwarder) = running.get(topic).and_then(Weak::upgrade) {
            return Ok(forwarder);
        }
        let started = DelayForwarder::start(core, topic, self.memory.clone())?;
        running.insert(topic.clone(), Arc::downgrade(&started));
        Ok(started)
    }

    /// The leases of the partitions of queues, whose delayed messages are forwarded by their owner. Must be called
    /// within tokio's runtime.
    pub(crate) fn leases(&self, core: &Arc<Core>) -> Result<Arc<Leases>> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        match &*leases {
            Some(leases) => Ok(leases.clone()),
            None => Ok(leases.insert(forwarder::start_owned(core, self.memory.clone())?).clone()),
        }
    }
}
