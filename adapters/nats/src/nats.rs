use serde_json::json;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use partitura_adapter_kit::{Member, warn_of_faults};
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delay, Durability, Error, ErrorKind, Inbox,
    Limits, Ordering, Partition, Producer, ProducerOptions, Result, SubscriptionName, Supports, TopicKind, TopicName,
    Topology, telemetry,
};
use tokio::sync::watch;
use tracing::Instrument;

use crate::faults::FAULTS;
use crate::group::{Competitors, Covered, Listener, Owners};
use crate::inbox::NatsInbox;
use crate::link::{Connection, Link};
use crate::options::{API, Options, Settings};
use crate::prefetch::Ahead;
use crate::producer::NatsProducer;
use crate::topics::{Known, Topics};
use crate::topology::Declaring;
use crate::{consumers, names, wire};

/// The name in telemetry.
pub(crate) const SYSTEM: &str = "nats";

/// The oldest server that has message schedules.
const OLDEST: (i64, i64) = (2, 12);
const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// NATS JetStream as a broker.
///
/// Cloning gives another handle to the same connections.
///
/// # Durability
/// A [`Receipt`](partitura_broker::Receipt) means that a server has written the message to its disk's cache, or, with
/// [`Options::replicas`] of 3 or more, that most of them have. How soon the disk is synced is the server's own setting
/// (`sync_interval`, by default two minutes).
#[derive(Clone)]
pub struct Nats {
    core: Arc<Core>,
}

/// What everything that comes from one [`Nats`] shares.
pub(crate) struct Core {
    pub(crate) settings: Arc<Settings>,
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
    pub(crate) topics: Topics,
    /// Messages go out over one connection and come in over another, so that neither waits for the other.
    pub(crate) publishing: Connection,
    pub(crate) consuming: Connection,
    close: watch::Sender<bool>,
    /// That a stranger keeps partitions from being claimed is said once.
    pub(crate) warned: AtomicBool,
}

/// Waits for the broker to be closed.
pub(crate) struct Closed(watch::Receiver<bool>);

impl Closed {
    pub(crate) async fn wait(&mut self) {
        // Without its sender the broker is gone, too.
        let _ = self.0.wait_for(|closed| *closed).await;
    }
}

impl Core {
    pub(crate) fn closed(&self) -> Closed {
        Closed(self.close.subscribe())
    }
}

impl Nats {
    /// Connects by URL: `nats://USER:PASSWORD@HOST:4222,HOST:4222?…`, or `tls://…`. [`Options`] says what else may be in it,
    /// and what may come from the environment.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument): the URL. [`Unauthorized`](ErrorKind::Unauthorized): the credentials,
    /// or the server's certificate. [`Incompatible`](ErrorKind::Incompatible): the server is older than 2.12, or its JetStream
    /// is off. [`Disconnected`](ErrorKind::Disconnected): no server could be reached.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, options: Options) -> Result<Self> {
        let settings = Arc::new(Settings::new(url, options)?);
        let (close, closed) = watch::channel(false);
        let connection = || Connection::new(settings.clone(), closed.clone());
        let (publishing, consuming) = (connection(), connection());
        let link = publishing.link("connect").await?;
        check_server(&link).await?;
        warn_of_faults(SYSTEM, &link.info.version, FAULTS);
        let capabilities = capabilities(&link, &settings)?;
        let topics = Topics::new(settings.prefix.clone(), settings.replicas);
        Ok(Self {
            core: Arc::new(Core {
                settings,
                capabilities,
                clock: CorrectedClock::default(),
                topics,
                publishing,
                consuming,
                close,
                warned: AtomicBool::new(false),
            }),
        })
    }

    /// The client's own connection, for what the contract does not have. It is not replaced when it is lost: ask again.
    ///
    /// # Errors
    /// Those of connecting.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn vendor(&self) -> Result<async_nats::Client> {
        Ok(self.core.publishing.link("get the client").await?.client.clone())
    }

    async fn joined(&self, subscription: SubscriptionName, options: &ConsumerOptions) -> Result<Box<dyn Consumer>> {
        let core = self.core.clone();
        let link = core.consuming.link("consume").await?;
        let mut topics = Covered::new();
        for name in &options.topics {
            let known = core.topics.get(&link, "consume", name).await?;
            check_declared(&link, &known, &subscription).await?;
            topics.insert(name.clone(), known);
        }
        let orderings: HashSet<_> = topics.values().map(|known| ordering(known)).collect();
        let [ordering] = orderings.into_iter().collect::<Vec<_>>()[..] else {
            let message = "the topics of one subscription are ordered alike, and these are not";
            return Err(Error::new(ErrorKind::InvalidArgument, "consume", message).of(&subscription));
        };
        // What is here of all partitions together, given out or not, is at most twice what may be out.
        let bytes = 2 * (options.credit.bytes.get() / ordering.unwrap_or(1) as usize);
        Ok(match ordering {
            Some(partitions) => {
                let owners = Arc::new(Owners::join(core, topics, subscription, bytes).await?);
                Box::new(Member::ordered(owners, options, partitions, SYSTEM))
            }
            None => {
                let competitors = Arc::new(Competitors::new(core, topics, subscription, bytes));
                Box::new(Member::shared(competitors, options, SYSTEM))
            }
        })
    }

    async fn listening(&self, options: &ConsumerOptions) -> Result<Box<dyn Consumer>> {
        let name = &options.topics[0];
        let link = self.core.consuming.link("consume").await?;
        let known = self.core.topics.get(&link, "consume", name).await?;
        if known.topic.kind != TopicKind::Stream {
            let message = "a queue cannot be broadcast: each of its messages is for one consumer only";
            return Err(Error::new(ErrorKind::InvalidArgument, "consume", message).of(name));
        }
        let partitions = ordering(&known).unwrap_or(0);
        let ahead = Ahead { messages: options.credit.messages.get(), bytes: 2 * options.credit.bytes.get() };
        let listener = Listener::new(self.core.clone(), known, ahead).await?;
        Ok(Box::new(Member::broadcast(Arc::new(listener), options, partitions, SYSTEM)))
    }
}

/// How many partitions a topic is ordered in; `None` where it is shared.
fn ordering(known: &Known) -> Option<u32> {
    match known.topic.ordering {
        Ordering::ByKey { partitions } => Some(partitions),
        Ordering::Shared => None,
    }
}

async fn check_declared(link: &Link, known: &Known, subscription: &SubscriptionName) -> Result<()> {
    let consumer = match known.topic.ordering {
        Ordering::ByKey { .. } => names::owned_consumer(subscription, Partition(0)),
        Ordering::Shared => names::shared_consumer(subscription),
    };
    match consumers::find(link, "consume", known, &consumer).await? {
        Some(_) => Ok(()),
        None => {
            let message = format!("{} has no such subscription; declare it first", known.topic.name);
            Err(Error::new(ErrorKind::NotFound, "consume", message).of(subscription))
        }
    }
}

async fn check_server(link: &Link) -> Result<()> {
    let incompatible =
        |message: String| Err(Error::new(ErrorKind::Incompatible, "connect", message).of(&link.info.server_name));
    let (major, minor) = OLDEST;
    if !link.client.is_server_compatible(major, minor, 0) {
        let found = &link.info.version;
        return incompatible(format!(
            "the server is NATS {found}; {major}.{minor} or later has the delays that are needed"
        ));
    }
    // With a domain it is another server's.
    if !link.info.jetstream && link.api == API {
        return incompatible("JetStream is off; start the server with -js, or connect to one that has it".to_owned());
    }
    match link.ask::<serde_json::Value>("connect", &link.info.server_name, "INFO".to_owned(), &json!({})).await? {
        Ok(_) => Ok(()),
        Err(refused) => incompatible(format!("JetStream is off for this account: {refused}")),
    }
}

fn capabilities(link: &Link, settings: &Settings) -> Result<Capabilities> {
    let payload = link.info.max_payload.saturating_sub(wire::OVERHEAD);
    if payload == 0 {
        let message = format!("the server takes {} bytes a message; set its max_payload to 2MB", link.info.max_payload);
        return Err(Error::new(ErrorKind::Incompatible, "connect", message).of(&link.info.server_name));
    }
    Ok(Capabilities {
        broker: format!("nats {}", link.info.version),
        // Streams that have fewer replicas than were asked for are refused.
        durability: if settings.replicas >= Some(3) { Durability::Replicated } else { Durability::Written },
        delay: Delay { native: true, max: YEAR * 10, lateness: Duration::from_millis(100) },
        hold: None,
        limits: Limits { payload, ..Limits::default() },
        supports: Supports { cancellation: true, ..Supports::default() },
    })
}

#[async_trait]
impl Broker for Nats {
    fn capabilities(&self) -> &Capabilities {
        &self.core.capabilities
    }

    fn clock(&self) -> CorrectedClock {
        self.core.clock.clone()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        topology.validate()?;
        let core = &self.core;
        let link = core.publishing.link("declare").await?;
        let declaring = Declaring { link: &link, settings: &core.settings, topics: &core.topics, mode: topology.mode };
        declaring.all(topology).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.core.publishing.link("open a producer").await?;
        Ok(Box::new(NatsProducer::new(self.core.clone(), &options)))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        options.validate()?;
        let span = telemetry::consumer_span(SYSTEM, &options.topics, options.subscription.as_ref());
        match options.subscription.clone() {
            Some(subscription) => self.joined(subscription, &options).instrument(span).await,
            None => self.listening(&options).instrument(span).await,
        }
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        Ok(Box::new(NatsInbox::open(self.core.clone()).await?))
    }

    fn has_subscribers(&self, _: &TopicName) -> bool {
        // Only the server knows, and asking it is not cheap.
        true
    }

    async fn close(&self) -> Result<()> {
        if !self.core.close.send_replace(true) {
            self.core.publishing.close().await;
            self.core.consuming.close().await;
        }
        Ok(())
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("connection", &self.core.publishing).finish_non_exhaustive()
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("settings", &self.settings).finish_non_exhaustive()
    }
}
