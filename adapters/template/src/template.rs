use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use partitura_adapter_kit::Member;
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delay, Durability, Inbox, Limits, Ordering,
    Producer, ProducerOptions, Result, Supports, TopicName, Topology, telemetry,
};
use sqlx::PgConnection;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::Instrument;

use crate::claims::{Audience, TemplateClaims};
use crate::client::{Client, Session};
use crate::core::{Core, SYSTEM};
use crate::inbox::TemplateInbox;
use crate::notices::Notices;
use crate::options::{Address, Options};
use crate::producer::TemplateProducer;
use crate::publish_queue::PublishQueue;
use crate::{delay, error, topics, topology};

/// Tables of Postgres as a broker.
///
/// Cloning gives another handle to the same connections.
///
/// # Durability
/// A [`Receipt`](partitura_broker::Receipt) means that the message was committed. With the usual settings of the
/// server it is on the server's disk then.
#[derive(Clone)]
pub struct Template {
    core: Arc<Core>,
    notices: Arc<Notices>,
    publish_queue: Arc<Mutex<PublishQueue>>,
}

impl Template {
    /// Connects by URL, `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with the parameters of libpq, as `sslmode` and
    /// `sslrootcert`; and `schema`. Creates missing tables.
    ///
    /// # Errors
    /// [`InvalidArgument`](partitura_broker::ErrorKind::InvalidArgument): the URL.
    /// [`Unauthorized`](partitura_broker::ErrorKind::Unauthorized): credentials, rights, or the server's certificate.
    /// [`NotFound`](partitura_broker::ErrorKind::NotFound): the database.
    /// [`Incompatible`](partitura_broker::ErrorKind::Incompatible): the server is older than 14.
    /// [`Disconnected`](partitura_broker::ErrorKind::Disconnected) and
    /// [`Timeout`](partitura_broker::ErrorKind::Timeout): no server answers.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, options: Options) -> Result<Self> {
        let client = Client::new(Address::parse(url, options)?);
        let prepared = timeout(client.address.request_timeout, prepare(&client)).await;
        let (capabilities, connection) = prepared.map_err(|_| error::timed_out("connect").of(&client.address))??;
        let publish_queue = Arc::new(Mutex::new(PublishQueue::new(&client, connection)));
        let notices = Arc::new(Notices::listen(&client).await?);
        let core = Arc::new(Core { client, capabilities, clock: CorrectedClock::default() });
        Ok(Self { core, notices, publish_queue })
    }

    /// Opens a connection of the client library, with the tables on its search path, for features that the contract
    /// does not have.
    ///
    /// # Errors
    /// Those of connecting.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn client(&self) -> Result<PgConnection> {
        self.core.check_open("get the client")?;
        self.core.client.connect("get the client").await
    }
}

/// Connects, creates the tables, and checks the settings of the server.
async fn prepare(client: &Client) -> Result<(Capabilities, PgConnection)> {
    let mut connection = client.connect("connect").await?;
    let prepared = topology::prepare(&mut connection, &client.address.schema).await;
    prepared.map_err(|source| error::classify("create tables", source).of(&client.address))?;
    let query = "SELECT current_setting('server_version'),
                        current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'";
    let (version, synced): (String, bool) =
        sqlx::query_as(query).fetch_one(&mut connection).await.map_err(|source| error::classify("connect", source))?;
    let capabilities = Capabilities {
        broker: format!("template on postgres {version}"),
        durability: if synced { Durability::Synced } else { Durability::Written },
        delay: Delay { native: true, max: delay::MAX_DELAY, lateness: delay::LATENESS },
        hold: None,
        limits: Limits::default(),
        supports: Supports { cancellation: true, ..Supports::default() },
    };
    Ok((capabilities, connection))
}

#[async_trait]
impl Broker for Template {
    fn capabilities(&self) -> &Capabilities {
        &self.core.capabilities
    }

    fn clock(&self) -> CorrectedClock {
        self.core.clock.clone()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.core.check_open("declare")?;
        let Client { address, .. } = &self.core.client;
        let mut connection = self.core.client.connect("declare").await?;
        let declaring = topology::declare(&mut connection, &address.schema, topology);
        timeout(address.request_timeout, declaring).await.map_err(|_| error::timed_out("declare").of(address))?
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.publish_queue.lock().await.session("open a producer").await?;
        Ok(Box::new(TemplateProducer::new(self.core.clone(), self.publish_queue.clone(), options)))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        options.validate()?;
        let span = telemetry::consumer_span(SYSTEM, &options.topics, options.subscription.as_ref());
        async {
            let session = Session::open(&self.core.client, "consume").await?;
            let topic = topics::find_all(&session, &options).await?;
            let audience = match (&options.subscription, topic.ordering) {
                (None, _) => Audience::Broadcast,
                (Some(name), Ordering::ByKey { .. }) => Audience::Ordered(name.clone()),
                (Some(name), Ordering::Shared) => Audience::Shared(name.clone()),
            };
            let (core, notices) = (self.core.clone(), self.notices.clone());
            let claims =
                Arc::new(TemplateClaims::new(core, notices, session, audience.clone(), &options, topic.ordering));
            Ok(Box::new(match (audience, topic.ordering) {
                (Audience::Broadcast, ordering) => {
                    claims.open(&topic.name, options.credit.messages.get()).await?;
                    let partitions = if ordering == Ordering::Shared { 0 } else { ordering.partitions() };
                    Member::broadcast(claims, &options, partitions, SYSTEM)
                }
                (Audience::Ordered(_), ordering) => Member::ordered(claims, &options, ordering.partitions(), SYSTEM),
                (Audience::Shared(_), _) => Member::shared(claims, &options, SYSTEM),
            }) as Box<dyn Consumer>)
        }
        .instrument(span)
        .await
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        Ok(Box::new(TemplateInbox::open(self.core.clone(), self.notices.clone()).await?))
    }

    /// The answer would need a request.
    fn has_subscribers(&self, _topic: &TopicName) -> bool {
        true
    }

    async fn close(&self) -> Result<()> {
        self.core.client.closing.send_replace(true);
        // Accepted messages are still written: each session ends after its last request.
        self.core.client.running.closed().await;
        Ok(())
    }
}

impl fmt::Debug for Template {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("address", &self.core.client.address).finish_non_exhaustive()
    }
}
