use std::collections::{HashMap, hash_map::Entry};
use std::sync::Arc;

use bytes::Bytes;
use partitura_broker::{
    Delayed, Error, ErrorKind, Message, MessageId, Ordering, Partition, Result, TopicKind, TopicName, partition_of,
};
use sqlx::PgConnection;

use crate::client::{Client, Session};
use crate::topics::DeclaredTopic;

/// The largest number of messages in one statement.
pub(crate) const MAX_ROWS: usize = 1_000;

/// The session of all producers of one broker. A call holds its lock while it sends, so that calls are sent one after
/// another.
#[derive(Debug)]
pub(crate) struct PublishQueue {
    client: Client,
    session: Arc<Session>,
    /// The ordering of topics. It never changes, so it is asked for once.
    topics: HashMap<TopicName, Ordering>,
}

/// The parts of a message that decide its partition.
pub(crate) struct Placed<'a> {
    topic: &'a TopicName,
    key: Option<&'a Bytes>,
    id: &'a MessageId,
}

impl<'a> From<&'a Message> for Placed<'a> {
    fn from(message: &'a Message) -> Self {
        Self { topic: &message.topic, key: message.key.as_ref(), id: &message.id }
    }
}

impl<'a> From<&'a Delayed> for Placed<'a> {
    fn from(delayed: &'a Delayed) -> Self {
        Self { topic: &delayed.topic, key: delayed.key.as_ref(), id: &delayed.id }
    }
}

impl PublishQueue {
    pub(crate) fn new(client: &Client, connection: PgConnection) -> Self {
        Self { client: client.clone(), session: Session::start(client, connection), topics: HashMap::new() }
    }

    /// Returns the session. Opens a new one, if the last has ended.
    pub(crate) async fn session(&mut self, operation: &'static str) -> Result<Arc<Session>> {
        if self.session.has_ended() || self.client.is_closed() {
            self.session = Session::open(&self.client, operation).await?;
        }
        Ok(self.session.clone())
    }

    /// Returns the partition of a message, or the reason why it cannot be published.
    pub(crate) async fn partition(
        &mut self,
        session: &Session,
        operation: &'static str,
        message: &Placed<'_>,
    ) -> Result<Partition> {
        let ordering = match self.topics.entry(message.topic.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => {
                let rows = session.ask(operation, DeclaredTopic::query(unknown.key())).arrive().await?;
                let found = DeclaredTopic::read(operation, unknown.key(), &rows)?;
                if found.topic.kind == TopicKind::Queue && found.subscriptions.is_empty() {
                    let text = "the queue has no subscription, so no consumer would receive it; declare one";
                    return Err(Error::new(ErrorKind::NotFound, operation, text).of(unknown.key()));
                }
                *unknown.insert(found.topic.ordering)
            }
        };
        // A message without a key may be in any partition.
        let key = message.key.map_or(message.id.as_str().as_bytes(), |key| key);
        Ok(partition_of(key, ordering.partitions()))
    }
}
