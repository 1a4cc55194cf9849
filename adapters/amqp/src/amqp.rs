use std::sync::Arc;

use async_trait::async_trait;
use fe2o3_amqp::connection::ConnectionHandle;
use partitura_adapter_kit::Member;
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Error, ErrorKind, Inbox, Ordering, Producer,
    ProducerOptions, Result, TopicKind, TopicName, Topology,
};
use tokio::sync::Mutex;

use crate::claims::AmqpClaims;
use crate::client::{Client, uncancelled};
use crate::core::{Core, SYSTEM};
use crate::inbox::AmqpInbox;
use crate::options::{Options, Target};
use crate::producer::AmqpProducer;
use crate::profile::Extent;
use crate::{profile, topology};

/// A broker that speaks AMQP 1.0.
///
/// Cloning gives another handle to the same connections.
#[derive(Debug, Clone)]
pub struct Amqp {
    core: Arc<Core>,
}

impl Amqp {
    /// Connects to a server.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument): the URL. [`Unauthorized`](ErrorKind::Unauthorized): the
    /// credentials, or the server's certificate, or the user may not manage queues.
    /// [`Incompatible`](ErrorKind::Incompatible): the server does not speak AMQP 1.0, or is not of the profile. All
    /// other errors are retryable.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, options: Options) -> Result<Self> {
        let target = Target::new(url, &options)?;
        let kind = target.profile;
        let client = Client::new(target)?;
        let control = client.connector("control");
        control.connection().await?;
        let profile = profile::named(kind, control.clone());
        let capabilities = profile.capabilities().await?;
        Ok(Self { core: Arc::new(Core::new(client, control, profile, capabilities)) })
    }

    /// The client library's own connection, for features that the contract does not have. It is the one that
    /// declares. After a loss, call this again.
    ///
    /// # Errors
    /// Those of connecting.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn client(&self) -> Result<Arc<Mutex<ConnectionHandle<()>>>> {
        self.core.control.connection().await
    }

    /// Returns the ordering of a consumer's topics, which is the same for all of them.
    async fn ordering(&self, options: &ConsumerOptions) -> Result<Ordering> {
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
                    let profile = &self.core.profile;
                    profile.expect_subscription(&topic, subscription, Extent::Some, "consume").await?;
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
impl Broker for Amqp {
    fn capabilities(&self) -> &Capabilities {
        &self.core.capabilities
    }

    fn clock(&self) -> CorrectedClock {
        self.core.clock.clone()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.core.check_open("declare")?;
        let (core, topology) = (self.core.clone(), topology.clone());
        uncancelled(async move { topology::declare(&core, &topology).await }).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.core.check_open("open a producer")?;
        self.core.publishing.connection().await?;
        Ok(Box::new(AmqpProducer::new(self.core.clone(), &options)))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        options.validate()?;
        self.core.check_open("consume")?;
        let ordering = self.ordering(&options).await?;
        let claims = Arc::new(AmqpClaims::open(self.core.clone(), &options, ordering).await?);
        Ok(Box::new(match (&options.subscription, ordering) {
            (Some(_), Ordering::ByKey { partitions }) => Member::ordered(claims, &options, partitions, SYSTEM),
            (Some(_), Ordering::Shared) => Member::shared(claims, &options, SYSTEM),
            (None, Ordering::ByKey { partitions }) => Member::broadcast(claims, &options, partitions, SYSTEM),
            (None, Ordering::Shared) => Member::broadcast(claims, &options, 0, SYSTEM),
        }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.core.check_open("open an inbox")?;
        Ok(Box::new(AmqpInbox::open(self.core.clone()).await?))
    }

    fn has_subscribers(&self, _: &TopicName) -> bool {
        // Other processes may make queues at any time, without a notice.
        true
    }

    async fn close(&self) -> Result<()> {
        self.core.close().await
    }
}
