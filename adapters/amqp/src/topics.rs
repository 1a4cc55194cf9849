//! What is known of topics: their kind, and their partitions.
//!
//! A queue describes each topic: the queue `partitura:orders:topic`, at the topic's address, has the filter
//! `partitura_topic = 'queue:8'`. No message has this property, so that the queue stays empty. The description is as
//! durable and as replicated as any queue, exists once, and every tool of the broker shows it.

use std::sync::Arc;

use partitura_adapter_kit::{TopicCache, describe_topic, parse_topic};
use partitura_broker::{Error, ErrorKind, Result, Topic, TopicName};

use crate::management::{Management, NewQueue, Request};
use crate::names;

const PROPERTY: &str = "partitura_topic = ";

/// The topics that were looked up so far.
#[derive(Debug)]
pub(crate) struct Topics {
    management: Arc<Management>,
    cache: TopicCache,
}

impl Topics {
    pub(crate) fn new(management: Arc<Management>) -> Self {
        Self { management, cache: TopicCache::default() }
    }

    /// Looks a topic up, at the broker if it was not looked up before.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound); [`Incompatible`](ErrorKind::Incompatible), if its queue was not made by
    /// Partitura.
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
        let request = Request::filter(&names::description(name));
        let filter = self.management.ask(operation, name, request).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, operation, "there is no such topic: declare it").of(name).because(error)
            }
            _ => error,
        })?;
        filter.as_str().and_then(|filter| parse(name, filter)).ok_or_else(|| {
            let queue = names::description(name);
            let message = format!("the queue {queue:?} does not describe a topic: its filter is {filter}");
            Error::new(ErrorKind::Incompatible, operation, message).of(name)
        })
    }

    /// Returns a topic that was looked up before.
    pub(crate) fn cached(&self, name: &TopicName) -> Option<Topic> {
        self.cache.get(name)
    }

    pub(crate) fn learn(&self, topic: Topic) {
        self.cache.insert(topic);
    }

    /// Empties the cache, since a topic may have changed.
    pub(crate) fn forget_all(&self) {
        self.cache.clear();
    }
}

/// The queue that describes a topic.
pub(crate) fn description(topic: &Topic) -> NewQueue {
    let filter = Some(format!("{PROPERTY}'{}'", describe_topic(topic)));
    NewQueue {
        name: names::description(&topic.name),
        address: names::address(&topic.name),
        filter,
        ..NewQueue::default()
    }
}

fn parse(name: &TopicName, filter: &str) -> Option<Topic> {
    parse_topic(name, filter.strip_prefix(PROPERTY)?.strip_prefix('\'')?.strip_suffix('\'')?)
}

#[cfg(test)]
mod tests {
    use partitura_broker::{Ordering, TopicKind};

    use super::*;

    #[test]
    fn a_topic_is_read_back_from_its_filter() {
        let name = TopicName::new("orders").expect("a name");
        let topic = Topic { name: name.clone(), kind: TopicKind::Queue, ordering: Ordering::ByKey { partitions: 8 } };
        let filter = description(&topic).filter.expect("a filter");
        assert_eq!(filter, "partitura_topic = 'queue:8'");
        assert_eq!(parse(&name, &filter), Some(topic));
        for strange in ["partitura_topic = 'pile:8'", "partitura_topic = 'queue'", "x = 1", ""] {
            assert_eq!(parse(&name, strange), None, "{strange}");
        }
    }
}
