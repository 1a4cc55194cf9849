//! Knowledge of topics: their kind, and their partitions.

use std::sync::Arc;

use partitura_adapter_kit::TopicCache;
use partitura_broker::{Result, Topic, TopicName};

use crate::profile::Profile;

/// The topics that were looked up so far.
#[derive(Debug)]
pub(crate) struct Topics {
    profile: Arc<dyn Profile>,
    cache: TopicCache,
}

impl Topics {
    pub(crate) fn new(profile: Arc<dyn Profile>) -> Self {
        Self { profile, cache: TopicCache::default() }
    }

    /// Looks a topic up, at the broker if it was not looked up before.
    ///
    /// # Errors
    /// [`NotFound`](partitura_broker::ErrorKind::NotFound);
    /// [`Incompatible`](partitura_broker::ErrorKind::Incompatible), if it was not made by Partitura.
    pub(crate) async fn get(&self, name: &TopicName, operation: &'static str) -> Result<Topic> {
        if let Some(topic) = self.cached(name) {
            return Ok(topic);
        }
        let topic = self.find(name, operation).await?;
        self.learn(topic.clone());
        Ok(topic)
    }

    /// Looks a topic up at the broker.
    pub(crate) async fn find(&self, name: &TopicName, operation: &'static str) -> Result<Topic> {
        self.profile.find_topic(name, operation).await
    }

    /// Returns a topic that was looked up before.
    pub(crate) fn cached(&self, name: &TopicName) -> Option<Topic> {
        self.cache.get(name)
    }

    pub(crate) fn learn(&self, topic: Topic) {
        self.cache.insert(topic);
    }

    /// Forgets a topic, since it may have changed.
    pub(crate) fn forget(&self, name: &TopicName) {
        self.cache.remove(name);
    }
}
