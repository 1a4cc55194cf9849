use std::sync::Arc;

use partitura_broker::{Broker, Result, Topology};
use partitura_lanes::DeadLetters;

use crate::client::Client;
use crate::client::event_streams::Events;
use crate::core::Core;
use crate::health::Health;
use crate::messaging::directory::Destination;
use crate::storage::served::{self, Served};
use crate::timekeeper::ClockOffset;
use crate::worker::Worker;

/// A broker, a place for state, and settings: what workers and clients are made from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Partitura(pub(crate) Arc<Core>);

impl Partitura {
    /// A worker, still without anything to do.
    pub fn worker(&self) -> Worker {
        Worker::new(self.0.clone())
    }

    /// The client: starts workflows and talks to them.
    pub fn client(&self) -> Client {
        self.0.client.clone()
    }

    /// Gives the events of workflows and tasks, to subscribe to.
    pub fn events(&self) -> Events {
        Events::new(self.0.clone())
    }

    /// The broker, for messaging beside workflows.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.0.broker
    }

    /// The workflows and services that workers serve or have served, of any process: services first, each kind by name.
    ///
    /// # Errors
    /// [`Unsupported`](partitura_broker::ErrorKind::Unsupported) when this connection has no store; those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn served(&self) -> Result<Vec<Served>> {
        served::all(&self.0.client.connection().stored).await
    }

    /// Makes sure that the topics of a workflow or a service exist, with the number of partitions of this connection.
    ///
    /// # Errors
    /// [`Incompatible`](partitura_broker::ErrorKind::Incompatible) when they exist with another number; those of the
    /// broker.
    ///
    /// # Cancel safety
    /// Dropped, they may exist. Declaring them again is harmless.
    pub async fn declare(&self, destination: &Destination) -> Result<()> {
        self.0.directory.declare(destination).await
    }

    /// The topics and subscriptions of a workflow or a service, as [`declare`](Self::declare) declares them: for an
    /// operator who makes them.
    ///
    /// # Errors
    /// [`InvalidArgument`](partitura_broker::ErrorKind::InvalidArgument) for a name that none can have.
    pub fn topology(&self, destination: &Destination) -> Result<Topology> {
        self.0.directory.topology(destination)
    }

    /// Gives the names of the topics of a workflow or a service on the broker, whether they exist or not.
    ///
    /// # Errors
    /// [`InvalidArgument`](partitura_broker::ErrorKind::InvalidArgument) for a name that none can have.
    pub fn topics(&self, destination: &Destination) -> Result<TopicNames> {
        let directory = &self.0.directory;
        let (takes, events, partitions) = match destination {
            Destination::Workflow(name) => {
                let topics = directory.workflow(name)?;
                (topics.commands, topics.events, Some(directory.partitions()))
            }
            Destination::Service(name) => {
                let topics = directory.service(name)?;
                (topics.tasks, topics.events, None)
            }
        };
        Ok(TopicNames { takes: takes.to_string(), events: events.to_string(), partitions })
    }

    /// Gives the messages to a workflow or a service that workers have given up, if its topics exist: to look at, to
    /// send again, to throw away.
    ///
    /// # Errors
    /// [`InvalidArgument`](partitura_broker::ErrorKind::InvalidArgument) for a name that none can have.
    pub fn dead_letters(&self, destination: &Destination) -> Result<DeadLetters> {
        let source = match destination {
            Destination::Workflow(name) => self.0.directory.workflow(name)?.source(self.0.directory.partitions())?,
            Destination::Service(name) => self.0.directory.service(name)?.source()?,
        };
        DeadLetters::new(self.0.broker.clone(), source)
    }

    /// How far the clock of the deployment is from that of this machine, as last estimated; it is added to every moment
    /// that a worker of this process sets or judges. `None`: no worker has compared them, or there is nothing to
    /// compare with.
    ///
    /// Workers compare when they start, and once a minute: with the server of the [store](crate::Builder::store), or,
    /// without a store, with the workers that send them tasks. More than a second is warned about, too.
    pub fn clock_offset(&self) -> Option<ClockOffset> {
        self.0.time.offset()
    }

    /// How the workers of this connection stand, in this process: for the probes of an orchestrator of containers.
    pub fn health(&self) -> Health {
        self.0.workers.health()
    }

    /// Closes the broker. Stop workers before.
    ///
    /// # Errors
    /// The error that kept accepted work from being written.
    ///
    /// # Cancel safety
    /// Safe to call again.
    pub async fn close(&self) -> Result<()> {
        self.0.broker.close().await
    }
}

/// The names of the topics of a workflow or a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicNames {
    /// The topic to which its commands or tasks are sent.
    pub takes: String,
    /// The topic of its events.
    pub events: String,
    /// How many partitions the first of these has; tasks have no order.
    pub partitions: Option<u32>,
}
