use bytes::Bytes;
use partitura_broker::{Delivery, Headers, Message, MessageId, Partition};

/// A payload with its message and attempt. A handler that wants more than the payload takes this.
///
/// ```
/// # async fn ship(order: String) -> Result<(), std::io::Error> { Ok(()) }
/// use partitura_lanes::Envelope;
///
/// let handler = |order: Envelope<String>| async move {
///     println!("{} of {:?}, attempt {}", order.id(), order.key_str(), order.attempt());
///     ship(order.into_payload()).await
/// };
/// # let _ = handler;
/// ```
#[derive(Debug, Clone)]
pub struct Envelope<T> {
    payload: T,
    message: Message,
    partition: Partition,
    redelivered: bool,
    attempt: u32,
}

impl<T> Envelope<T> {
    pub(super) fn new(payload: T, delivery: Delivery, attempt: u32) -> Self {
        let Delivery { message, partition, redelivered, .. } = delivery;
        Self { payload, message, partition, redelivered, attempt }
    }

    /// The payload.
    pub fn payload(&self) -> &T {
        &self.payload
    }

    /// The payload, to own.
    pub fn into_payload(self) -> T {
        self.payload
    }

    /// Unique for ever, and the same whenever the message comes again: for deduplication.
    pub fn id(&self) -> &MessageId {
        &self.message.id
    }

    /// The key.
    pub fn key(&self) -> Option<&Bytes> {
        self.message.key.as_ref()
    }

    /// The key, where it is text.
    pub fn key_str(&self) -> Option<&str> {
        self.key().and_then(|key| std::str::from_utf8(key).ok())
    }

    /// The headers.
    pub fn headers(&self) -> &Headers {
        &self.message.headers
    }

    /// Which run this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether it may have been delivered before.
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// Where it came from.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The message as it was published, payload included as bytes.
    pub fn message(&self) -> &Message {
        &self.message
    }
}
