use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;

use crate::{Partition, Timestamp, TopicName};

/// One message, as published and as delivered.
///
/// Cloning is cheap: names, keys and payloads are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it goes, or where it came from.
    pub topic: TopicName,
    /// Given by the sender and kept for ever, redelivery and republishing included: for deduplication.
    ///
    /// Conformance: `id.edges`.
    pub id: MessageId,
    /// Decides the partition and thereby the order. `None` is not the empty key: it has no order at all.
    ///
    /// Conformance: `key.edges`.
    pub key: Option<Bytes>,
    /// Names and values, in order.
    ///
    /// Conformance: `header.edges`.
    pub headers: Headers,
    /// Any bytes. Adapters never look into them.
    ///
    /// Conformance: `payload.edges`.
    pub payload: Bytes,
    /// Not delivered before this moment; in the past or `None`: at once.
    ///
    /// It joins the order of its key when it falls due. So delayed messages of a key come in the order in which they
    /// fall due and, where two are due in the same millisecond, in the order in which they were published. This holds
    /// for messages whose receipts came at least [`Delay::lateness`](crate::Delay::lateness) before the earlier of them
    /// is due.
    ///
    /// Conformance: `delay.never_early`, `delay.mixed`, `delay.joins_order`, `delay.due_order`, `delay.past_due`,
    /// `delay.same_tick`, `delay.consumer_absent`, `delay.survives_restart`, `delay.backlog`.
    pub not_before: Option<Timestamp>,
}

impl Message {
    /// A message without key, headers or delay.
    pub fn new(topic: TopicName, id: impl Into<MessageId>, payload: impl Into<Bytes>) -> Self {
        Self { topic, id: id.into(), key: None, headers: Headers::default(), payload: payload.into(), not_before: None }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the moment before which it must not be delivered.
    #[must_use]
    pub fn not_before(mut self, moment: Timestamp) -> Self {
        self.not_before = Some(moment);
        self
    }

    /// The identity by which it is [cancelled](crate::Producer::cancel); `None` if it is not delayed.
    pub fn delayed(&self) -> Option<Delayed> {
        let Self { topic, key, id, not_before, .. } = self;
        (*not_before).map(|not_before| Delayed { topic: topic.clone(), key: key.clone(), id: id.clone(), not_before })
    }

    /// Its size against [credit](crate::Credit) and [limits](crate::Limits): key, headers and payload, in bytes.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.headers.size() + self.payload.len()
    }
}

/// A message that waits for its moment, as it was published: the values by which it is found again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Delayed {
    /// Where it goes.
    pub topic: TopicName,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its id.
    pub id: MessageId,
    /// When it is due.
    pub not_before: Timestamp,
}

/// The identity of a message: up to 255 bytes of visible ASCII, unique for ever.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Arc<str>);

impl MessageId {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for MessageId {
    fn from(id: T) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The headers of a message: few, small, in order. An empty list does not allocate.
///
/// Names are compared byte for byte. Those that begin with `partitura-` are ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Arc<str>, Bytes)>);

impl Headers {
    /// The value of the first header of that name.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.iter().find_map(|(n, value)| (n == name).then_some(value))
    }

    /// The value of the first header of that name, where it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Sets a header, replacing those of the same name.
    pub fn insert(&mut self, name: &str, value: impl Into<Bytes>) {
        self.remove(name);
        self.0.push((name.into(), value.into()));
    }

    /// Adds a header behind those of the same name.
    pub fn append(&mut self, name: &str, value: impl Into<Bytes>) {
        self.0.push((name.into(), value.into()));
    }

    /// Removes the headers of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| &**n != name);
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of names and values.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// The broker's confirmation: the message is stored, as durably as [`Capabilities`](crate::Capabilities) say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Where it went; 0 on a shared topic.
    pub partition: Partition,
}

/// The address of an [`Inbox`](crate::Inbox): short text, meaningful to every process on the same broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InboxAddress(Arc<str>);

impl InboxAddress {
    /// The part that makes an address its owner's alone: 32 hexadecimal digits that cannot be guessed. Every adapter
    /// puts one into the addresses that it gives out.
    ///
    /// They come from the standard library's [`RandomState`], whose keys are the operating system's randomness.
    pub fn secret() -> String {
        let half = || RandomState::new().build_hasher().finish();
        format!("{:016x}{:016x}", half(), half())
    }

    /// Whether this is what [`secret`](Self::secret) gives. An address is what some request said; before an adapter
    /// sends a reply there, it takes the address apart, and checks this part with the rest.
    pub fn is_secret(text: &str) -> bool {
        text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    }

    /// Wraps the text of an address that a request brought.
    pub fn new(address: impl Into<Arc<str>>) -> Self {
        Self(address.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
