use std::sync::Arc;

use async_trait::async_trait;
use partitura_adapter_kit::Member;
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Error, ErrorKind, Inbox, Ordering, Partition,
    Producer, ProducerOptions, Result, TopicKind, TopicName, Topology,
};

use crate::SYSTEM;
use crate::core::Core;
use crate::error::closed;
use crate::inbox::RabbitmqInbox;
use crate::link::uncancelled;
use crate::names;
use crate::options::Options;
use crate::producer::RabbitmqProducer;
use crate::subscriber::Subscriber;
use crate::topology;

/// Partitura on RabbitMQ. Cheap to clone; all clones share the connections.
#[derive(Debug, Clone)]
pub struct Rabbitmq {
    core: Arc<Core>,
}

impl Rabbitmq {
    /// Connects to a server, or to a cluster by one of its nodes.
    ///
    /// # Errors
    /// [`Unauthorized`](ErrorKind::Unauthorized) with wrong credentials, or when the server's certificate is not trusted;
    /// [`NotFound`](ErrorKind::NotFound) when the virtual host does not exist; [`Incompatible`](ErrorKind::Incompatible)
    /// when the server is older than 3.10, or none at all; [`InvalidArgument`](ErrorKind::InvalidArgument) for a URL that
    /// cannot be read. Otherwise retryable.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, options: Options) -> Result<Self> {
        Ok(Self { core: Core::connect(url, &options).await? })
    }

    /// The client's own connection, for what only RabbitMQ can do. It is the one that declares and asks; if it is lost,
    /// this gives another.
    ///
    /// # Errors
    /// Those of connecting.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn vendor(&self) -> Result<Arc<lapin::Connection>> {
        self.core.control.connection().await
    }

    fn ensure_open(&self, operation: &'static str) -> Result<()> {
        if self.core.dial.is_closed() { Err(closed(operation)) } else { Ok(()) }
    }

    /// The ordering that all topics of a consumer have.
    async fn ordering(self, options: ConsumerOptions) -> Result<Ordering> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidArgument, "consume", message));
        let Some(first) = options.topics.first() else { return invalid("a consumer needs at least one topic".into()) };
        let first = self.core.topics.get(first, "consume").await?;
        for name in &options.topics {
            let topic = self.core.topics.get(name, "consume").await?;
            if topic.ordering != first.ordering {
                return invalid(format!("{} and {name} are ordered differently", first.name));
            }
            match &options.subscription {
                Some(subscription) => {
                    let queue = names::queue(name, subscription, Partition(0));
                    topology::exists(&self.core.control, &queue, subscription, "consume").await?;
                }
                None if topic.kind == TopicKind::Queue => {
                    return invalid(format!(
                        "{name} is a queue; only a stream can be listened to without a subscription"
                    ));
                }
                None => {}
            }
        }
        Ok(first.ordering)
    }
}

#[async_trait]
impl Broker for Rabbitmq {
    fn capabilities(&self) -> &Capabilities {
        &self.core.capabilities
    }

    fn clock(&self) -> CorrectedClock {
        self.core.clock.clone()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.ensure_open("declare")?;
        uncancelled(topology::declare(self.core.clone(), topology.clone())).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.ensure_open("open a producer")?;
        self.core.publishing.connection().await?;
        Ok(Box::new(RabbitmqProducer::new(self.core.clone(), &options)))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        options.validate()?;
        self.ensure_open("consume")?;
        let ordering = uncancelled(self.clone().ordering(options.clone())).await?;
        let Some(meeting) = options.topics.iter().min().cloned() else {
            return Err(Error::new(ErrorKind::InvalidArgument, "consume", "a consumer needs at least one topic"));
        };
        let subscriber = Subscriber::open(self.core.clone(), &options, meeting, ordering).await?;
        let subscriber = Arc::new(subscriber);
        Ok(Box::new(match (&options.subscription, ordering) {
            (Some(_), Ordering::ByKey { partitions }) => Member::ordered(subscriber, &options, partitions, SYSTEM),
            (Some(_), Ordering::Shared) => Member::shared(subscriber, &options, SYSTEM),
            (None, Ordering::ByKey { partitions }) => Member::broadcast(subscriber, &options, partitions, SYSTEM),
            (None, Ordering::Shared) => Member::broadcast(subscriber, &options, 0, SYSTEM),
        }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.ensure_open("open an inbox")?;
        Ok(Box::new(RabbitmqInbox::open(self.core.clone()).await?))
    }

    fn has_subscribers(&self, _: &TopicName) -> bool {
        // Queues may be bound by others at any time, and nobody is told.
        true
    }

    async fn close(&self) -> Result<()> {
        self.core.close().await
    }
}
