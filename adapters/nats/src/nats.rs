use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use partitura_adapter_kit::{Member, warn_of_faults};
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delay, Durability, Error, ErrorKind, Inbox,
    Limits, Ordering, Partition, Producer, ProducerOptions, Result, SubscriptionName, Supports, TopicKind, TopicName,
    Topology, telemetry,
};
use serde_json::json;
use tokio::sync::watch;
use tracing::Instrument;

use crate::claim::Ahead;
use crate::claims::{BroadcastClaims, OrderedClaims, SharedClaims, SubscribedTopics};
use crate::client::{Connection, Connector};
use crate::core::{Core, SYSTEM};
use crate::faults::FAULTS;
use crate::inbox::NatsInbox;
use crate::options::{API, Options, Settings};
use crate::producer::NatsProducer;
use crate::topics::{KnownTopic, Topics};
use crate::topology::Declaration;
use crate::{consumers, delay, names, wire};

/// The oldest server with message schedules: major and minor version.
const OLDEST: (i64, i64) = (2, 12);

/// NATS JetStream as a broker.
///
/// Cloning gives another handle to the same connections.
///
/// # Durability
/// A [`Receipt`](partitura_broker::Receipt) means that a server has written the message to its disk's cache. With
/// [`Options::replicas`] of 3 or more, most of the servers have. The server's setting `sync_interval` (by default two
/// minutes) says when the disk is synced.
#[derive(Clone)]
pub struct Nats {
    core: Arc<Core>,
}

impl Nats {
    /// Connects by URL: `nats://USERNAME:PASSWORD@HOST:4222,HOST:4222?…`, or `tls://…`. [`Options`] lists its
    /// parameters, and the variables of the environment.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument): the URL. [`Unauthorized`](ErrorKind::Unauthorized): the
    /// credentials, or the server's certificate. [`Incompatible`](ErrorKind::Incompatible): the server is older than
    /// 2.12, or its JetStream is off. [`Disconnected`](ErrorKind::Disconnected): no server could be reached.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, options: Options) -> Result<Self> {
        let settings = Arc::new(Settings::new(url, options)?);
        let (closing, closed) = watch::channel(false);
        let connector = || Connector::new(settings.clone(), closed.clone());
        let (publishing, consuming) = (connector(), connector());
        let connection = publishing.connection("connect").await?;
        check_server(&connection).await?;
        warn_of_faults(SYSTEM, &connection.info.version, FAULTS);
        let capabilities = capabilities(&connection, &settings)?;
        let topics = Topics::new(settings.prefix.clone(), settings.replicas);
        Ok(Self {
            core: Arc::new(Core {
                settings,
                capabilities,
                clock: CorrectedClock::default(),
                topics,
                publishing,
                consuming,
                closing,
                has_warned: AtomicBool::new(false),
            }),
        })
    }

    /// The client library's own connection, for features that the contract does not have. It does not reconnect:
    /// after a loss, call this again.
    ///
    /// # Errors
    /// Those of connecting.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn client(&self) -> Result<async_nats::Client> {
        Ok(self.core.publishing.connection("get the client").await?.client.clone())
    }

    async fn subscribed_consumer(
        &self,
        subscription: SubscriptionName,
        options: &ConsumerOptions,
    ) -> Result<Box<dyn Consumer>> {
        let core = self.core.clone();
        let connection = core.consuming.connection("consume").await?;
        let mut topics = SubscribedTopics::new();
        for name in &options.topics {
            let known = core.topics.get(&connection, "consume", name).await?;
            check_declared(&connection, &known, &subscription).await?;
            topics.insert(name.clone(), known);
        }
        let orderings: HashSet<_> = topics.values().map(|known| known.ordered_partitions()).collect();
        let [partitions] = orderings.into_iter().collect::<Vec<_>>()[..] else {
            let message = "the topics of one subscription need the same ordering";
            return Err(Error::new(ErrorKind::InvalidArgument, "consume", message).of(&subscription));
        };
        // All partitions together may have the credit in this process, given out or not. The client's buffers, which
        // grow by doubling, take about as much again.
        let bytes = options.credit.bytes.get() / partitions.unwrap_or(1) as usize;
        Ok(match partitions {
            Some(partitions) => {
                let claims = Arc::new(OrderedClaims::join(core, topics, subscription, bytes).await?);
                Box::new(Member::ordered(claims, options, partitions, SYSTEM))
            }
            None => {
                let claims = Arc::new(SharedClaims::new(core, topics, subscription, bytes));
                Box::new(Member::shared(claims, options, SYSTEM))
            }
        })
    }

    async fn broadcast_consumer(&self, options: &ConsumerOptions) -> Result<Box<dyn Consumer>> {
        let name = &options.topics[0];
        let connection = self.core.consuming.connection("consume").await?;
        let known = self.core.topics.get(&connection, "consume", name).await?;
        if known.topic.kind != TopicKind::Stream {
            let message = "a queue cannot be broadcast: each of its messages is for one consumer only";
            return Err(Error::new(ErrorKind::InvalidArgument, "consume", message).of(name));
        }
        let partitions = known.ordered_partitions().unwrap_or(0);
        let ahead = Ahead { messages: options.credit.messages.get(), bytes: options.credit.bytes.get() };
        let claims = BroadcastClaims::new(self.core.clone(), known, ahead).await?;
        Ok(Box::new(Member::broadcast(Arc::new(claims), options, partitions, SYSTEM)))
    }
}

async fn check_declared(connection: &Connection, known: &KnownTopic, subscription: &SubscriptionName) -> Result<()> {
    let consumer = match known.topic.ordering {
        Ordering::ByKey { .. } => names::owned_consumer(subscription, Partition(0)),
        Ordering::Shared => names::shared_consumer(subscription),
    };
    match consumers::find(connection, "consume", known, &consumer).await? {
        Some(_) => Ok(()),
        None => {
            let message = format!("{} has no such subscription; declare it first", known.topic.name);
            Err(Error::new(ErrorKind::NotFound, "consume", message).of(subscription))
        }
    }
}

async fn check_server(connection: &Connection) -> Result<()> {
    let incompatible =
        |message: String| Err(Error::new(ErrorKind::Incompatible, "connect", message).of(&connection.info.server_name));
    let (major, minor) = OLDEST;
    if !connection.client.is_server_compatible(major, minor, 0) {
        let found = &connection.info.version;
        return incompatible(format!(
            "the server is NATS {found}; {major}.{minor} or later is needed, for delayed messages"
        ));
    }
    // With a domain, JetStream is that of another server.
    if !connection.info.jetstream && connection.api == API {
        return incompatible("JetStream is off; start the server with -js, or connect to one that has it".to_owned());
    }
    match connection
        .ask::<serde_json::Value>("connect", &connection.info.server_name, "INFO".to_owned(), &json!({}))
        .await?
    {
        Ok(_) => Ok(()),
        Err(refused) => incompatible(format!("JetStream is off for this account: {refused}")),
    }
}

fn capabilities(connection: &Connection, settings: &Settings) -> Result<Capabilities> {
    let payload = connection.info.max_payload.saturating_sub(wire::OVERHEAD);
    if payload == 0 {
        let message =
            format!("the server takes {} bytes a message; set its max_payload to 2MB", connection.info.max_payload);
        return Err(Error::new(ErrorKind::Incompatible, "connect", message).of(&connection.info.server_name));
    }
    Ok(Capabilities {
        broker: format!("nats {}", connection.info.version),
        // Streams with fewer replicas than were asked for are refused.
        durability: if settings.replicas >= Some(3) { Durability::Replicated } else { Durability::Written },
        delay: Delay { native: true, max: delay::MAX_DELAY, lateness: delay::LATENESS },
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
        let connection = core.publishing.connection("declare").await?;
        let declaring = Declaration {
            connection: &connection,
            settings: &core.settings,
            topics: &core.topics,
            mode: topology.mode,
        };
        declaring.all(topology).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.core.publishing.connection("open a producer").await?;
        Ok(Box::new(NatsProducer::new(self.core.clone(), &options)))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        options.validate()?;
        let span = telemetry::consumer_span(SYSTEM, &options.topics, options.subscription.as_ref());
        match options.subscription.clone() {
            Some(subscription) => self.subscribed_consumer(subscription, &options).instrument(span).await,
            None => self.broadcast_consumer(&options).instrument(span).await,
        }
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        Ok(Box::new(NatsInbox::open(self.core.clone()).await?))
    }

    fn has_subscribers(&self, _: &TopicName) -> bool {
        // The answer would need a request.
        true
    }

    async fn close(&self) -> Result<()> {
        if !self.core.closing.send_replace(true) {
            self.core.publishing.close().await;
            self.core.consuming.close().await;
        }
        Ok(())
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("connector", &self.core.publishing).finish_non_exhaustive()
    }
}
