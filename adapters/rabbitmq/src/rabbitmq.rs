use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_adapter_kit::{Member, warn_of_faults};
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delay, Durability, Error, ErrorKind, Inbox,
    Limits, Ordering, Partition, Producer, ProducerOptions, Result, Supports, TopicKind, TopicName, Topology,
};

use crate::claims::RabbitmqClaims;
use crate::client::{Client, uncancelled};
use crate::core::{Core, SYSTEM};
use crate::delay::{self, Recovery};
use crate::faults::FAULTS;
use crate::inbox::RabbitmqInbox;
use crate::options::{Options, Target};
use crate::producer::RabbitmqProducer;
use crate::{names, queues, topology, version};

/// RabbitMQ as a broker.
///
/// Cloning gives another handle to the same connections.
#[derive(Debug, Clone)]
pub struct Rabbitmq {
    core: Arc<Core>,
    recovery: Arc<Recovery>,
}

impl Rabbitmq {
    /// Connects to a server, or to a cluster by one of its nodes.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument): the URL. [`Unauthorized`](ErrorKind::Unauthorized): the
    /// credentials, or the server's certificate. [`NotFound`](ErrorKind::NotFound): the virtual host.
    /// [`Incompatible`](ErrorKind::Incompatible): the server is older than 3.10, or not RabbitMQ. All other errors
    /// are retryable.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, options: Options) -> Result<Self> {
        let target = Target::new(url, &options)?;
        let version = version::read(&target).await?;
        warn_of_faults(SYSTEM, &version, FAULTS);
        let capabilities = capabilities(&version, target.hold);
        let client = Client::new(target);
        let control = client.connector("control");
        // This shows now whether the credentials are right, and not at the first use.
        control.connection().await?;
        Ok(Self { core: Arc::new(Core::new(client, control, capabilities)), recovery: Arc::default() })
    }

    /// The client library's own connection, for features that the contract does not have. It is the one that
    /// declares. After a loss, call this again.
    ///
    /// # Errors
    /// Those of connecting.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn client(&self) -> Result<Arc<lapin::Connection>> {
        self.core.control.connection().await
    }

    /// Returns the ordering of a consumer's topics, which is the same for all of them.
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
                    queues::check_exists(&self.core.control, &queue, subscription, "consume").await?;
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

fn capabilities(version: &str, hold: Duration) -> Capabilities {
    Capabilities {
        broker: format!("rabbitmq {version}"),
        // Quorum queues sync their log before they confirm: on the majority of their nodes, if they have several.
        durability: Durability::Synced,
        delay: Delay { native: true, max: delay::MAX_DELAY, lateness: delay::LATENESS },
        hold: Some(hold),
        limits: Limits::default(),
        supports: Supports::default(),
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
        self.core.check_open("declare")?;
        uncancelled(topology::declare(self.core.clone(), topology.clone())).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.core.check_open("open a producer")?;
        self.core.publishing.connection().await?;
        Ok(Box::new(RabbitmqProducer::new(self.core.clone(), &options)))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        options.validate()?;
        self.core.check_open("consume")?;
        let ordering = uncancelled(self.clone().ordering(options.clone())).await?;
        let claims = RabbitmqClaims::open(self.core.clone(), self.recovery.clone(), &options, ordering).await?;
        let claims = Arc::new(claims);
        Ok(Box::new(match (&options.subscription, ordering) {
            (Some(_), Ordering::ByKey { partitions }) => Member::ordered(claims, &options, partitions, SYSTEM),
            (Some(_), Ordering::Shared) => Member::shared(claims, &options, SYSTEM),
            (None, Ordering::ByKey { partitions }) => Member::broadcast(claims, &options, partitions, SYSTEM),
            (None, Ordering::Shared) => Member::broadcast(claims, &options, 0, SYSTEM),
        }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.core.check_open("open an inbox")?;
        Ok(Box::new(RabbitmqInbox::open(self.core.clone()).await?))
    }

    fn has_subscribers(&self, _: &TopicName) -> bool {
        // Other processes may bind queues at any time, without a notice.
        true
    }

    async fn close(&self) -> Result<()> {
        self.core.close().await
    }
}
