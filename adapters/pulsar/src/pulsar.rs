use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_adapter_kit::warn_of_faults;
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delay, Durability, Error, ErrorKind, Inbox,
    Limits, Producer, ProducerOptions, Result, Supports, TopicName, Topology,
};
use tokio::time::timeout;

use crate::claims;
use crate::client::{Admin, Cluster, Identity, http_client, tls_config, vendor_client};
use crate::core::{Core, SYSTEM};
use crate::delay::{Forwarders, MAX_DELAY};
use crate::error;
use crate::faults;
use crate::inbox::PulsarInbox;
use crate::options::{Batching, Options, Target};
use crate::producer::PulsarProducer;
use crate::publisher::Publisher;
use crate::topics::{Topics, follow};
use crate::topology;

/// The broker's setting that decides about batches.
const BY_INDEX: &str = "acknowledgmentAtBatchIndexLevelEnabled";
/// The broker's setting for the tracker of delayed messages.
const TRACKER: &str = "delayedDeliveryTrackerFactoryClassName";
/// The time for which closing waits for accepted messages.
const CLOSE_WITHIN: Duration = Duration::from_secs(20);

/// Apache Pulsar. See [the crate](crate) for how it keeps the contract.
#[derive(Debug)]
pub struct Pulsar {
    core: Arc<Core>,
    forwarders: Forwarders,
    target: Target,
    identity: Arc<Identity>,
}

impl Pulsar {
    /// Connects to `pulsar://host[:port][,host…][/tenant/namespace][?option=value…]`, or `pulsar+ssl://…`. The options
    /// of the URL go before `options`; docs/brokers/pulsar.md lists them.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a URL or an option that cannot be used,
    /// [`Unauthorized`](ErrorKind::Unauthorized) for credentials or a certificate that are not accepted, and those of
    /// connecting, which are retryable.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, options: Options) -> Result<Self> {
        let target = Target::parse(url, options)?;
        let tls = tls_config(target.options.ca.as_deref())?;
        let http = http_client(&tls)?;
        let identity = Arc::new(Identity::new(target.options.credentials.clone(), http.clone()));
        let cluster = Arc::new(Cluster::new(target.clone(), tls, identity.clone()));
        cluster.reach().await?;
        let admin = Admin::new(target.admin.clone(), http, identity.clone());
        let version = admin.version().await.map_err(|error| error.of(&target.admin))?;
        let settles_by_index = match target.options.batching {
            Batching::On => true,
            Batching::Off => false,
            Batching::Auto => admin.setting(BY_INDEX).await?.as_deref() == Some("true"),
        };
        if settles_by_index {
            warn_of_faults(SYSTEM, version.trim(), faults::WITH_BATCHES);
        }
        if admin.setting(TRACKER).await?.is_some_and(|tracker| tracker.contains("Bucket")) {
            warn_of_faults(SYSTEM, version.trim(), faults::WITH_BUCKETS);
        }
        let topics = Arc::new(Topics::new(admin, target.namespace.clone()));
        tokio::spawn(follow(Arc::downgrade(&topics)));
        let clock = CorrectedClock::over(target.options.clock.clone());
        let core = Core {
            capabilities: capabilities(version.trim()),
            clock: clock.clone(),
            publisher: Publisher::new(cluster.clone(), Arc::new(clock)),
            topics,
            cluster,
            settles_by_index,
        };
        Ok(Self { core: Arc::new(core), forwarders: Forwarders::default(), target, identity })
    }

    /// Another connection, of Pulsar's official client, to the same cluster and as the same role: for everything that
    /// the contract does not have.
    ///
    /// # Errors
    /// Those of connecting.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn client(&self) -> Result<pulsar::Pulsar<pulsar::TokioExecutor>> {
        self.core.cluster.check("connect")?;
        vendor_client(&self.target, self.identity.clone()).await
    }
}

fn capabilities(version: &str) -> Capabilities {
    Capabilities {
        broker: format!("pulsar {version}"),
        // A bookie answers after it has synced its journal, unless this is turned off.
        durability: Durability::Synced,
        delay: Delay { native: true, max: MAX_DELAY, lateness: Duration::from_millis(200) },
        hold: None,
        limits: Limits::default(),
        supports: Supports::default(),
    }
}

#[async_trait]
impl Broker for Pulsar {
    fn capabilities(&self) -> &Capabilities {
        &self.core.capabilities
    }

    fn clock(&self) -> CorrectedClock {
        self.core.clock.clone()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.core.cluster.check("declare")?;
        topology::declare(&self.core, topology).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.core.cluster.check("open a producer")?;
        Ok(Box::new(PulsarProducer::new(self.core.clone(), &options)))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        options.validate()?;
        claims::join(&self.core, &self.forwarders, &options).await
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        Ok(Box::new(PulsarInbox::new(self.core.clone()).await?))
    }

    /// Always true: only a request over the network could tell.
    fn has_subscribers(&self, _topic: &TopicName) -> bool {
        true
    }

    async fn close(&self) -> Result<()> {
        if self.core.cluster.check("close").is_err() {
            return Ok(());
        }
        let written = timeout(CLOSE_WITHIN, self.core.publisher.close()).await;
        self.core.cluster.close().await;
        written.map_err(|_| {
            let message = format!("the last messages were not confirmed within {CLOSE_WITHIN:?}");
            Error::new(ErrorKind::OutcomeUnknown, "close", message).because(error::timeout("close"))
        })
    }
}
