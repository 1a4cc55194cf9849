use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use partitura_broker::TopicName;
use tokio::task::AbortHandle;

use super::forwarder;
use crate::core::Core;

/// Forwards the timers of one topic until the last guard is dropped.
#[derive(Debug)]
pub(crate) struct ForwarderGuard(AbortHandle);

impl Drop for ForwarderGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The forwarders of this process, one for each topic that it consumes.
#[derive(Debug, Default)]
pub(crate) struct Forwarders(Mutex<HashMap<TopicName, Weak<ForwarderGuard>>>);

impl Forwarders {
    /// Forwards the timers of a topic for as long as the guard is kept.
    pub(crate) fn forward(&self, core: &Arc<Core>, topic: &TopicName) -> Arc<ForwarderGuard> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(forwarder) = all.get(topic).and_then(Weak::upgrade) {
            return forwarder;
        }
        all.retain(|_, forwarder| forwarder.strong_count() > 0);
        let forwarder =
            Arc::new(ForwarderGuard(tokio::spawn(forwarder::run(core.clone(), topic.clone())).abort_handle()));
        all.insert(topic.clone(), Arc::downgrade(&forwarder));
        forwarder
    }
}
