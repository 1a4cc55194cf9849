use std::fmt;
use std::marker::PhantomData;

use partitura_broker::{DeclareMode, Error, ErrorKind, Ordering, Result, TopicKind, TopicName, Topology};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{Connection, DeclaredTopic};
use super::{Publish, Subscriber};
use crate::DeadLetters;
use crate::subscription_topics::is_reserved;

/// Describes a typed topic, until it is [declared](Self::declare).
///
/// By default it is ordered by key, in 8 partitions, with parking.
pub struct TopicBuilder<T> {
    connection: Connection,
    name: String,
    kind: TopicKind,
    ordering: Ordering,
    subscriptions: Vec<String>,
    parking: bool,
    mode: DeclareMode,
    payload: PhantomData<fn() -> T>,
}

impl<T> TopicBuilder<T> {
    pub(super) fn new(connection: Connection, name: String, kind: TopicKind) -> Self {
        let ordering = Ordering::ByKey { partitions: 8 };
        Self {
            connection,
            name,
            kind,
            ordering,
            subscriptions: Vec::new(),
            parking: true,
            mode: DeclareMode::Create,
            payload: PhantomData,
        }
    }

    /// Ordered by key, in this many partitions: at most as many consumers share the work. Fixed for ever.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.ordering = Ordering::ByKey { partitions };
        self
    }

    /// Without order: any number of consumers compete for single messages.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.ordering = Ordering::Shared;
        self
    }

    /// Adds a durable subscription: it gets everything published after the declaration. A queue has exactly one.
    #[must_use]
    pub fn subscription(mut self, name: impl Into<String>) -> Self {
        self.subscriptions.push(name.into());
        self
    }

    /// Whether messages that are held too long are parked. All users of the subscription have to agree.
    #[must_use]
    pub fn parking(mut self, on: bool) -> Self {
        self.parking = on;
        self
    }

    /// Creates nothing: a missing object is an error.
    #[must_use]
    pub fn verify_only(mut self) -> Self {
        self.mode = DeclareMode::Verify;
        self
    }

    /// Creates, or verifies, the topic, its subscriptions, their parking and their dead letters.
    ///
    /// # Errors
    /// Those of [`Broker::declare`](partitura_broker::Broker::declare), and
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for names that are not allowed, and for a queue without
    /// a subscription.
    ///
    /// # Cancel safety
    /// Declaring again completes it.
    pub async fn declare(self) -> Result<Topic<T>> {
        let name = TopicName::new(&self.name)?;
        if self.kind == TopicKind::Queue && self.subscriptions.is_empty() {
            let message = "a queue without a subscription would drop its messages: add .subscription(\"…\")";
            return Err(Error::new(ErrorKind::InvalidArgument, "declare", message).of(&name));
        }
        if is_reserved(&name) {
            let message =
                "names that end in .dead or .parking are those of dead letters and of what is parked: use another";
            return Err(Error::new(ErrorKind::InvalidArgument, "declare", message).of(&name));
        }
        let parking = self.parking && self.ordering != Ordering::Shared;
        let Self { kind, ordering, connection, .. } = self;
        let declared = DeclaredTopic { name, kind, ordering, parking, connection };
        let name = declared.name.clone();
        let mut topology =
            Topology { mode: self.mode, ..Topology::new() }.topic(partitura_broker::Topic { name, kind, ordering });
        for subscription in &self.subscriptions {
            topology = declared.source(subscription)?.declare(topology, parking)?;
        }
        declared.connection.broker.declare(&topology).await?;
        Ok(Topic { declared, payload: PhantomData })
    }
}

/// A declared topic of messages of one type.
pub struct Topic<T> {
    declared: DeclaredTopic,
    payload: PhantomData<fn() -> T>,
}

impl<T> Topic<T> {
    /// Its name.
    pub fn name(&self) -> &TopicName {
        &self.declared.name
    }

    /// Consumes a durable subscription of the topic, together with all its other consumers.
    pub fn subscribe(&self, subscription: impl Into<String>) -> Subscriber<T> {
        Subscriber::new(self.declared.clone(), Some(subscription.into()))
    }

    /// Listens to everything that is published to a stream from now on. Not durable, and without dead letters.
    pub fn listen(&self) -> Subscriber<T> {
        Subscriber::new(self.declared.clone(), None)
    }

    /// The dead letters of a subscription.
    ///
    /// Letters of a stream are redriven through the subscription's parking topic, where it has one: no other
    /// subscription gets them again.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument): such a name is not allowed.
    pub fn dead_letters(&self, subscription: impl AsRef<str>) -> Result<DeadLetters> {
        let DeclaredTopic { kind, parking, connection, .. } = &self.declared;
        let source = self.declared.source(subscription.as_ref())?;
        let letters = DeadLetters::new(connection.broker.clone(), source)?;
        if *kind == TopicKind::Stream && *parking { letters.redrive_to_parking() } else { Ok(letters) }
    }
}

impl<T: Serialize + DeserializeOwned> Topic<T> {
    /// Publishes a message: awaits its confirm. Without a [key](Publish::key) it has no order.
    ///
    /// A payload that would not decode to the same value is refused: see [`partitura_codec`].
    ///
    /// ```no_run
    /// # async fn example(orders: partitura_lanes::Topic<String>) -> Result<(), partitura_broker::Error> {
    /// use std::time::Duration;
    /// orders.publish(&"one chair".to_owned()).key("ada").after(Duration::from_secs(300)).await?;
    /// # Ok(()) }
    /// ```
    pub fn publish(&self, payload: &T) -> Publish {
        Publish::new(self.declared.connection.clone(), self.declared.name.clone(), partitura_codec::encode(payload))
    }
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self { declared: self.declared.clone(), payload: PhantomData }
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeclaredTopic { name, ordering, .. } = &self.declared;
        f.debug_struct("Topic").field("name", name).field("ordering", ordering).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for TopicBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, ordering, subscriptions, .. } = self;
        let mut builder = f.debug_struct("TopicBuilder");
        builder.field("name", name).field("kind", kind).field("ordering", ordering);
        builder.field("subscriptions", subscriptions).finish_non_exhaustive()
    }
}
