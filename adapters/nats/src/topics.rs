//! What is known of topics. It is kept with their streams, as metadata, and does not change.

use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::Subject;
use async_nats::jetstream::stream;
use partitura_broker::{Error, ErrorKind, Ordering, Partition, Result, Topic, TopicKind, TopicName};

use crate::link::Link;
use crate::{error, fitness, names};

const KIND: &str = "partitura-kind";
const PARTITIONS: &str = "partitura-partitions";
const SHARED: &str = "shared";

/// A topic that exists.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) topic: Topic,
    pub(crate) stream: String,
    /// One for each partition.
    pub(crate) subjects: Vec<Subject>,
}

impl Known {
    pub(crate) fn new(prefix: &str, topic: Topic) -> Self {
        let partitions = (0..topic.ordering.partitions()).map(Partition);
        let subjects = partitions.map(|partition| names::subject(prefix, &topic.name, partition).into()).collect();
        Self { stream: names::stream(prefix, &topic.name), subjects, topic }
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.topic.ordering.partitions()
    }
}

/// The metadata of a topic's stream.
pub(crate) fn describe(topic: &Topic) -> HashMap<String, String> {
    let kind = match topic.kind {
        TopicKind::Queue => "queue",
        TopicKind::Stream => "stream",
    };
    let partitions = match topic.ordering {
        Ordering::ByKey { partitions } => partitions.to_string(),
        Ordering::Shared => SHARED.to_owned(),
    };
    HashMap::from([(KIND.to_owned(), kind.to_owned()), (PARTITIONS.to_owned(), partitions)])
}

/// The topic that a stream keeps, if it is one of ours.
pub(crate) fn read(name: &TopicName, config: &stream::Config) -> Option<Topic> {
    let kind = match config.metadata.get(KIND)?.as_str() {
        "queue" => TopicKind::Queue,
        "stream" => TopicKind::Stream,
        _ => return None,
    };
    let ordering = match config.metadata.get(PARTITIONS)?.as_str() {
        SHARED => Ordering::Shared,
        number => Ordering::ByKey { partitions: number.parse().ok().filter(|partitions| *partitions > 0)? },
    };
    Some(Topic { name: name.clone(), kind, ordering })
}

/// The topics that were asked for so far.
#[derive(Debug)]
pub(crate) struct Topics {
    prefix: String,
    /// How many replicas were asked for.
    replicas: Option<usize>,
    known: Mutex<HashMap<TopicName, Arc<Known>>>,
}

impl Topics {
    pub(crate) fn new(prefix: String, replicas: Option<usize>) -> Self {
        Self { prefix, replicas, known: Mutex::default() }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn cached(&self, name: &TopicName) -> Option<Arc<Known>> {
        self.lock().get(name).cloned()
    }

    /// Forgets a topic that may be gone.
    pub(crate) fn forget(&self, name: &TopicName) {
        self.lock().remove(name);
    }

    /// Looks a topic up, at the server if it has not been asked for before.
    pub(crate) async fn get(&self, link: &Link, operation: &'static str, name: &TopicName) -> Result<Arc<Known>> {
        if let Some(known) = self.cached(name) {
            return Ok(known);
        }
        let Some(config) = self.stream(link, operation, name).await? else {
            let message = "there is no such topic; declare it first";
            return Err(Error::new(ErrorKind::NotFound, operation, message).of(name));
        };
        let topic = read(name, &config).ok_or_else(|| {
            let message = format!("the stream {} exists and is none of ours", config.name);
            Error::new(ErrorKind::Incompatible, operation, message).of(name)
        })?;
        fitness::check(operation, &topic, &config, self.replicas)?;
        let known = Arc::new(Known::new(&self.prefix, topic));
        self.lock().insert(name.clone(), known.clone());
        Ok(known)
    }

    /// The configuration of a topic's stream, if there is one.
    pub(crate) async fn stream(
        &self,
        link: &Link,
        operation: &'static str,
        name: &TopicName,
    ) -> Result<Option<stream::Config>> {
        let request = format!("STREAM.INFO.{}", names::stream(&self.prefix, name));
        match link.ask::<stream::Info>(operation, name, request, &json!({})).await? {
            Ok(info) => Ok(Some(info.config)),
            Err(e) if e.error_code() == async_nats::jetstream::ErrorCode::STREAM_NOT_FOUND => Ok(None),
            Err(e) => Err(error::refused(operation, name, e)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicName, Arc<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_read_back_from_its_metadata() {
        let name = TopicName::new("orders").expect("a valid name");
        for kind in [TopicKind::Queue, TopicKind::Stream] {
            for ordering in [Ordering::Shared, Ordering::ByKey { partitions: 12 }] {
                let topic = Topic { name: name.clone(), kind, ordering };
                let config = stream::Config { metadata: describe(&topic), ..Default::default() };
                assert_eq!(read(&name, &config), Some(topic));
            }
        }
        assert_eq!(read(&name, &stream::Config::default()), None);
    }
}
