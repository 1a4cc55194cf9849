//! Knowledge of topics: kind, ordering and partitions. The metadata of a topic's stream have them, and they do not
//! change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::Subject;
use async_nats::jetstream::stream;
use bytes::Bytes;
use partitura_broker::{
    Error, ErrorKind, MessageId, Ordering, Partition, Result, Topic, TopicKind, TopicName, partition_of,
};
use serde_json::json;

use crate::client::Connection;
use crate::{error, names, requirements};

const KIND: &str = "partitura-kind";
const PARTITIONS: &str = "partitura-partitions";
const SHARED: &str = "shared";

/// A topic that exists.
#[derive(Debug)]
pub(crate) struct KnownTopic {
    pub(crate) topic: Topic,
    pub(crate) stream: String,
    /// The subject of each partition.
    pub(crate) subjects: Vec<Subject>,
}

impl KnownTopic {
    pub(crate) fn new(prefix: &str, topic: Topic) -> Self {
        let partitions = (0..topic.ordering.partitions()).map(Partition);
        let subjects = partitions.map(|partition| names::subject(prefix, &topic.name, partition).into()).collect();
        Self { stream: names::stream(prefix, &topic.name), subjects, topic }
    }

    /// The partition of a message. Without a key any partition would do. The one of the id is the same when the message
    /// is published again.
    pub(crate) fn partition(&self, key: Option<&Bytes>, id: &MessageId) -> Partition {
        partition_of(key.map_or(id.as_str().as_bytes(), |key| key), self.topic.ordering.partitions())
    }

    /// The number of partitions; `None` for a shared topic.
    pub(crate) fn ordered_partitions(&self) -> Option<u32> {
        match self.topic.ordering {
            Ordering::ByKey { partitions } => Some(partitions),
            Ordering::Shared => None,
        }
    }
}

/// Writes the metadata of a topic's stream.
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

/// Reads the topic of a stream from its metadata. `None`: it is no stream of this adapter.
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

/// The topics that were looked up so far.
#[derive(Debug)]
pub(crate) struct Topics {
    prefix: String,
    /// The least number of replicas, if one was asked for.
    replicas: Option<usize>,
    known: Mutex<HashMap<TopicName, Arc<KnownTopic>>>,
}

impl Topics {
    pub(crate) fn new(prefix: String, replicas: Option<usize>) -> Self {
        Self { prefix, replicas, known: Mutex::default() }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn cached(&self, name: &TopicName) -> Option<Arc<KnownTopic>> {
        self.lock().get(name).cloned()
    }

    /// Removes a topic that may be gone from the cache.
    pub(crate) fn forget(&self, name: &TopicName) {
        self.lock().remove(name);
    }

    /// Looks a topic up, at the server if it was not looked up before.
    pub(crate) async fn get(
        &self,
        connection: &Connection,
        operation: &'static str,
        name: &TopicName,
    ) -> Result<Arc<KnownTopic>> {
        if let Some(known) = self.cached(name) {
            return Ok(known);
        }
        let Some(config) = self.stream(connection, operation, name).await? else {
            let message = "there is no such topic; declare it first";
            return Err(Error::new(ErrorKind::NotFound, operation, message).of(name));
        };
        let topic = read(name, &config).ok_or_else(|| {
            let message = format!("the stream {} exists and was not made by Partitura", config.name);
            Error::new(ErrorKind::Incompatible, operation, message).of(name)
        })?;
        requirements::check(operation, &topic, &config, self.replicas)?;
        let known = Arc::new(KnownTopic::new(&self.prefix, topic));
        self.lock().insert(name.clone(), known.clone());
        Ok(known)
    }

    /// Asks for the configuration of a topic's stream. `None`: it does not exist.
    pub(crate) async fn stream(
        &self,
        connection: &Connection,
        operation: &'static str,
        name: &TopicName,
    ) -> Result<Option<stream::Config>> {
        let request = format!("STREAM.INFO.{}", names::stream(&self.prefix, name));
        match connection.ask::<stream::Info>(operation, name, request, &json!({})).await? {
            Ok(info) => Ok(Some(info.config)),
            Err(e) if e.error_code() == async_nats::jetstream::ErrorCode::STREAM_NOT_FOUND => Ok(None),
            Err(e) => Err(error::refused(operation, name, e)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicName, Arc<KnownTopic>>> {
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
