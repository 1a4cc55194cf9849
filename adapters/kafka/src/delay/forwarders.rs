use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use partitura_broker::{Result, TopicName};

use super::forwarder::DelayForwarder;
use super::memory::Memory;
use crate::core::Core;

/// The forwarders that run on a connection, and the memory that they share.
#[derive(Debug, Default)]
pub(crate) struct DelayForwarders {
    memory: Memory,
    running: Mutex<HashMap<TopicName, Weak<DelayForwarder>>>,
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
}
