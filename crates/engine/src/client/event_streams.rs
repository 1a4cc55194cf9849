//! Subscriptions to what happens to workflows and tasks.

use std::sync::Arc;

use partitura_broker::{Result, TopicName};
use partitura_lanes::{Messaging, Subscriber};
use partitura_workflow::{EventKind, ServiceStub, Workflow};

use crate::core::Core;
use crate::wire::events::{CloudEvent, TaskEvent};

/// The events of workflows and tasks, to subscribe to with a plain handler.
///
/// A subscription is durable: it gets every event from the moment it is made on, also while nobody consumes it.
/// Consumers of one name share its events; each name gets them all. Events of one instance come in order, each at least
/// once: [`CloudEvent::id`] tells a repeated one. An event that a handler gives up becomes a dead letter of the
/// subscription.
///
/// Subscribe before the events that matter happen. It may be done before any worker runs, and by a process without
/// workers. The number of partitions is that of this connection, which all processes set alike.
///
/// ```text
/// let charges = partitura.events().tasks::<PaymentsStub>("audit").await?;
/// charges.process(|event: CloudEvent<TaskEvent>| …).run_until(shutdown_signal()).await?;
/// ```
#[derive(Debug, Clone)]
pub struct Events {
    core: Arc<Core>,
}

impl Events {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The durable subscription of this name to what happens to the tasks of a service, made where it does not exist
    /// yet.
    ///
    /// # Errors
    /// [`Incompatible`](partitura_broker::ErrorKind::Incompatible) when the topic exists with another number of
    /// partitions; [`InvalidArgument`](partitura_broker::ErrorKind::InvalidArgument) for a name that is not allowed;
    /// those of the broker.
    ///
    /// # Cancel safety
    /// Dropped, the subscription may exist already. Subscribing again is harmless.
    pub async fn tasks<S: ServiceStub>(&self, subscription: &str) -> Result<Subscriber<CloudEvent<TaskEvent>>> {
        let topic = self.core.directory.service(S::NAME)?.events;
        self.subscribe(&topic, subscription).await
    }

    /// The durable subscription of this name to what happens to the instances of a workflow, made where it does not
    /// exist yet.
    ///
    /// # Errors
    /// As for [`tasks`](Self::tasks).
    ///
    /// # Cancel safety
    /// Dropped, the subscription may exist already. Subscribing again is harmless.
    pub async fn workflow<W: Workflow>(&self, subscription: &str) -> Result<Subscriber<CloudEvent<EventKind>>> {
        let topic = self.core.directory.workflow(W::NAME)?.events;
        self.subscribe(&topic, subscription).await
    }

    async fn subscribe<T>(&self, topic: &TopicName, subscription: &str) -> Result<Subscriber<CloudEvent<T>>> {
        let core = &self.core;
        let messaging = Messaging::over(core.broker.clone()).await?.clock(core.clock.clone());
        let messaging = messaging.codecs(core.directory.payloads().codecs().clone());
        let topic = messaging.stream(topic.as_str()).partitions(core.directory.partitions());
        Ok(topic.subscription(subscription).declare().await?.subscribe(subscription))
    }
}
