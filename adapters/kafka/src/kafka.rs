use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use partitura_adapter_kit::Member as Claimant;
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delay, Durability, Error, ErrorKind, Inbox,
    Limits, Producer, ProducerOptions, Result, Supports, TopicKind, TopicName, Topology,
};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{FromClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataBroker;
use rdkafka::producer::Producer as _;

use crate::client::Health;
use crate::consumer::Member;
use crate::core::{Admin, Core};
use crate::delay::Timers;
use crate::inbox::Mailbox;
use crate::listener::Listening;
use crate::options::{Options, Target};
use crate::outgoing::Outgoing;
use crate::producer::Publisher;
use crate::shared::Competing;
use crate::with_timers::WithTimers;
use crate::{error, names, subscription, topology};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// After this long with nothing but refusals, they are believed.
const REFUSED: Duration = Duration::from_millis(300);
/// How long a broker is given to tell its settings, before another is asked.
const ASKED: Duration = Duration::from_secs(5);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(3_652 * 86_400);
/// How late the 99th percentile of delayed messages is at most, with little load.
const LATENESS: Duration = Duration::from_millis(100);

/// A connection to Apache Kafka, 3.7 or later.
#[derive(Debug)]
pub struct Kafka(Arc<Core>);

impl Kafka {
    /// Connects to the brokers that the URL names: see [`Options`].
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a URL or a setting that cannot be,
    /// [`Unauthorized`](ErrorKind::Unauthorized) where the brokers refuse the credentials or their certificate is not
    /// trusted, [`Disconnected`](ErrorKind::Disconnected) where none answers within ten seconds,
    /// [`Timeout`](ErrorKind::Timeout) where they answer, but none tells its settings; each is given five seconds for that.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, options: Options) -> Result<Self> {
        let target = Target::new(url, options)?;
        let connect = move || {
            let health = Arc::new(Health::default());
            let mut config = target.config();
            // Nobody reads the admin client's queue of logs.
            config.set_log_level(RDKafkaLogLevel::Emerg);
            let admin = Admin::from_config(&target.finish(config));
            let admin = Arc::new(admin.map_err(|source| error::error("connect", source))?);
            let outgoing = Outgoing::start(&target, health.clone(), admin.clone())?;
            let brokers = reach(&outgoing, &health)?;
            Ok::<_, Error>((target, admin, outgoing, health, brokers))
        };
        let connected = tokio::task::spawn_blocking(connect).await.map_err(|_| error::closed("connect"))?;
        let (target, admin, outgoing, health, brokers) = connected?;
        let capabilities = capabilities(&admin, &brokers).await?;
        Ok(Self(Arc::new(Core::new(target, capabilities, admin, outgoing, health))))
    }

    /// The admin client that this connection uses, for what the contract does not offer. `None` after the close.
    pub fn vendor(&self) -> Option<Arc<AdminClient<DefaultClientContext>>> {
        self.0.admin().ok()
    }
}

/// Waits for the first answer, and names the brokers that are there. Blocks.
fn reach(outgoing: &Outgoing, health: &Health) -> Result<Vec<i32>> {
    let began = Instant::now();
    loop {
        let client = outgoing.producer().client();
        let failed = match client.fetch_metadata(Some(names::REPLIES), REFUSED) {
            Ok(metadata) if !metadata.brokers().is_empty() => {
                let mut brokers: Vec<i32> = metadata.brokers().iter().map(MetadataBroker::id).collect();
                // First the one that answered. The client may not know yet which that was.
                brokers.sort_unstable_by_key(|broker| (*broker != metadata.orig_broker_id(), *broker));
                return Ok(brokers);
            }
            Ok(_) => KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerNotAvailable),
            Err(failed) => failed,
        };
        if health.unauthorized() {
            let text = "the brokers refuse the credentials; check user, password and mechanism";
            return Err(Error::new(ErrorKind::Unauthorized, "connect", text).because(failed));
        }
        if health.untrusted() {
            let text = "no secure connection: check that the URL's ca is the one that signed the brokers' certificates";
            return Err(Error::new(ErrorKind::Unauthorized, "connect", text).because(failed));
        }
        if began.elapsed() > CONNECT {
            let text = "no broker answered within 10 s; check the servers in the URL and the security protocol";
            return Err(Error::new(ErrorKind::Disconnected, "connect", text).because(failed));
        }
    }
}

/// What the brokers say of themselves. Who may not ask gets the least that holds everywhere.
async fn capabilities(admin: &Admin, brokers: &[i32]) -> Result<Capabilities> {
    let config = settings(admin, brokers).await?;
    let value = |name: &str| config.as_ref().and_then(|config: &ConfigResource| config.get(name)?.value.clone());
    let replicated =
        value("min.insync.replicas").and_then(|count| count.parse().ok()).is_some_and(|count: u32| count > 1);
    // Brokers tell their version to nobody. Before 4.0 this setting had it, give or take an upgrade under way.
    let version = value("inter.broker.protocol.version").unwrap_or_else(|| "4 or later".into());
    Ok(Capabilities {
        broker: format!("kafka {version}"),
        durability: if replicated { Durability::Replicated } else { Durability::Written },
        delay: Delay { native: false, max: LONGEST_DELAY, lateness: LATENESS },
        hold: None,
        limits: Limits::default(),
        supports: Supports::default(),
    })
}

/// The settings of the first broker that tells them. `None`: they are not for everybody.
async fn settings(admin: &Admin, brokers: &[i32]) -> Result<Option<ConfigResource>> {
    let options = AdminOptions::new().request_timeout(Some(ASKED));
    let mut failure = None;
    for broker in brokers {
        let described = admin.describe_configs([&ResourceSpecifier::Broker(*broker)], &options).await;
        failure = match described.map(|all| all.into_iter().next()) {
            Ok(Some(Ok(config))) => return Ok(Some(config)),
            Ok(Some(Err(code))) if error::kind(code) != ErrorKind::Unauthorized => {
                Some(error::refused("connect", code))
            }
            Ok(_) => return Ok(None),
            // It may have gone a moment ago.
            Err(failed) => Some(error::error("connect", failed)),
        };
    }
    failure.map_or(Ok(None), Err)
}

#[async_trait]
impl Broker for Kafka {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    fn clock(&self) -> CorrectedClock {
        self.0.clock().clone()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        if self.0.is_closed() {
            return Err(error::closed("declare"));
        }
        topology::declare(&self.0, topology).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        if self.0.is_closed() {
            return Err(error::closed("producer"));
        }
        Ok(Box::new(Publisher::new(self.0.clone(), options)))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        if self.0.is_closed() {
            return Err(error::closed("consumer"));
        }
        let Some(first) = options.topics.first() else {
            return Err(Error::new(ErrorKind::InvalidArgument, "consumer", "a consumer needs at least one topic"));
        };
        let shared = self.0.route(first).await?.shared;
        let timers = self.timers(&options.topics).await?;
        let consumer: Box<dyn Consumer> = match &options.subscription {
            None => {
                self.check_streams(&options.topics).await?;
                let listening = Arc::new(Listening::to(self.0.clone(), &options.topics).await?);
                let partitions = self.0.route(first).await?;
                let count = if partitions.shared { 0 } else { partitions.partitions };
                Box::new(Claimant::broadcast(listening, &options, count, "kafka"))
            }
            Some(subscription) if shared => {
                let group = names::group(subscription, &options.topics);
                subscription::verify(&self.0, &group, &options.topics).await?;
                let competing = Competing { core: self.0.clone(), subscription: subscription.clone(), group };
                Box::new(Claimant::shared(Arc::new(competing), &options, "kafka"))
            }
            Some(subscription) => Box::new(Member::join(&self.0, &options, subscription).await?),
        };
        Ok(Box::new(WithTimers::new(consumer, timers)))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        if self.0.is_closed() {
            return Err(error::closed("inbox"));
        }
        Ok(Box::new(Mailbox::open(&self.0).await?))
    }

    fn has_subscribers(&self, _topic: &TopicName) -> bool {
        // Streams are kept for their retention: somebody may come for it.
        true
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

impl Kafka {
    /// Runs the timers of these topics for as long as they are consumed.
    async fn timers(&self, topics: &[TopicName]) -> Result<Vec<Arc<Timers>>> {
        let mut timers = Vec::with_capacity(topics.len());
        for topic in topics {
            self.0.route(topic).await?;
            timers.push(self.0.timers(topic)?);
        }
        Ok(timers)
    }

    async fn check_streams(&self, topics: &[TopicName]) -> Result<()> {
        for topic in topics {
            if self.0.route(topic).await?.kind == Some(TopicKind::Queue) {
                let text = "a queue has one subscription and cannot be listened to; declare a stream";
                return Err(Error::new(ErrorKind::InvalidArgument, "consumer", text).of(topic));
            }
        }
        Ok(())
    }
}
