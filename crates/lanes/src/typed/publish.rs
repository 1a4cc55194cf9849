use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, Message, MessageId, Receipt, Timestamp, TopicName};
use partitura_codec::EncodeError;

use super::connection::Connection;
use crate::headers::CONTENT_TYPE;

pub(super) const JSON: &str = "application/json";

/// A message about to be published: describe it, then await it.
///
/// # Errors
/// When awaited: those of [`Producer::publish`](partitura_broker::Producer::publish), and
/// [`InvalidArgument`](ErrorKind::InvalidArgument) when the payload cannot be written as JSON that decodes to the same
/// value. After [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) publish it again with the same [id](Self::id), by which a
/// receiver can deduplicate.
///
/// # Cancel safety
/// Dropping the future leaves the outcome unknown. It never reorders a key.
#[must_use = "a message is published when this is awaited"]
pub struct Publish {
    connection: Connection,
    message: partitura_broker::Result<Message>,
}

impl Publish {
    pub(super) fn new(connection: Connection, topic: TopicName, payload: Result<String, EncodeError>) -> Self {
        let id = || uuid::Uuid::now_v7().to_string();
        let message = match payload {
            Ok(payload) => Ok(Message::new(topic, id(), payload).header(CONTENT_TYPE, JSON)),
            Err(error) => {
                let text = format!("the payload cannot be written as JSON: {error}");
                Err(Error::new(ErrorKind::InvalidArgument, "publish", text).of(topic).because(error))
            }
        };
        Self { connection, message }
    }

    /// Sets the key: messages of one key are handled one after another, in order.
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.map(|message| message.key(Bytes::copy_from_slice(key.as_ref())))
    }

    /// Delivered after this time, never earlier, whatever happens to processes meanwhile.
    pub fn after(self, delay: Duration) -> Self {
        let due = self.connection.clock.now() + delay;
        self.at(due)
    }

    /// Delivered at this moment, never earlier.
    pub fn at(self, moment: Timestamp) -> Self {
        self.map(|message| message.not_before(moment))
    }

    /// Sets a header.
    pub fn header(self, name: &str, value: impl Into<Bytes>) -> Self {
        self.map(|message| message.header(name, value))
    }

    /// Sets the id; by default a new UUID, version 7.
    pub fn id(self, id: impl Into<MessageId>) -> Self {
        self.map(|message| Message { id: id.into(), ..message })
    }

    fn map(mut self, change: impl FnOnce(Message) -> Message) -> Self {
        self.message = self.message.map(change);
        self
    }
}

impl IntoFuture for Publish {
    type Output = partitura_broker::Result<Receipt>;
    type IntoFuture = Pin<Box<dyn Future<Output = partitura_broker::Result<Receipt>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let results = self.connection.producer.publish(vec![self.message?]).await;
            let no_result = || Err(Error::new(ErrorKind::OutcomeUnknown, "publish", "the producer gave no result"));
            results.into_iter().next().unwrap_or_else(no_result)
        })
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.message.as_ref().map(|message| &message.id);
        f.debug_struct("Publish").field("id", &id).finish_non_exhaustive()
    }
}
