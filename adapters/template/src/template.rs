use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_adapter_kit::Member;
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delay, Durability, Error, ErrorKind, Inbox,
    Limits, Ordering, Producer, ProducerOptions, Result, Supports, Topic, TopicKind, TopicName, Topology, telemetry,
};
use sqlx::PgConnection;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::Instrument;

use crate::claim::{Group, Kind};
use crate::error;
use crate::inbox::TemplateInbox;
use crate::notices::Notices;
use crate::options::{Address, Options};
use crate::producer::{Desk, TemplateProducer};
use crate::session::{Host, Session};
use crate::topology::{self, Found};

/// The name in telemetry.
pub(crate) const SYSTEM: &str = "template";

const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Tables of Postgres as a broker.
///
/// Cloning gives another handle to the same connections.
///
/// # Durability
/// A [`Receipt`](partitura_broker::Receipt) means that the message was committed. With the server's usual settings that is
/// on its disk.
#[derive(Clone)]
pub struct Template {
    core: Arc<Core>,
}

/// The shared state of one [`Template`] and everything that comes from it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) host: Host,
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
    pub(crate) notices: Notices,
    pub(crate) desk: Mutex<Desk>,
}

impl Template {
    /// Connects by URL, `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with the parameters of libpq, as `sslmode` and
    /// `sslrootcert`; and `schema`. Creates missing tables.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument): the URL. [`Unauthorized`](ErrorKind::Unauthorized): credentials,
    /// rights, or the server's certificate. [`NotFound`](ErrorKind::NotFound): the database.
    /// [`Incompatible`](ErrorKind::Incompatible): the server is older than 14. [`Disconnected`](ErrorKind::Disconnected) and
    /// [`Timeout`](ErrorKind::Timeout): no server answers.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, options: Options) -> Result<Self> {
        let host = Host::new(Address::parse(url, options)?);
        let prepared = timeout(host.address.patience, prepare(&host.address)).await;
        let (capabilities, first) = prepared.map_err(|_| error::silent("connect").of(&host.address))??;
        let desk = Mutex::new(Desk::over(Session::over(&host, first)));
        let notices = Notices::listen(&host).await?;
        Ok(Self { core: Arc::new(Core { host, capabilities, clock: CorrectedClock::default(), notices, desk }) })
    }

    /// Opens a connection of the client library, with the tables on its search path, for features that the contract
    /// does not have.
    ///
    /// # Errors
    /// Those of connecting.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn vendor(&self) -> Result<PgConnection> {
        self.open("get the client")?;
        self.core.host.address.connect("get the client").await
    }

    fn open(&self, operation: &'static str) -> Result<()> {
        if self.core.host.is_closed() { Err(error::closed(operation)) } else { Ok(()) }
    }
}

/// Connects, creates the tables, and checks the settings of the server.
async fn prepare(address: &Address) -> Result<(Capabilities, PgConnection)> {
    let mut connection = address.connect("connect").await?;
    let prepared = topology::prepare(&mut connection, &address.schema).await;
    prepared.map_err(|source| error::of("create tables", source).of(address))?;
    let query = "SELECT current_setting('server_version'),
                        current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'";
    let (version, synced): (String, bool) =
        sqlx::query_as(query).fetch_one(&mut connection).await.map_err(|source| error::of("connect", source))?;
    let capabilities = Capabilities {
        broker: format!("template on postgres {version}"),
        durability: if synced { Durability::Synced } else { Durability::Written },
        delay: Delay { native: true, max: YEAR, lateness: Duration::from_millis(100) },
        hold: None,
        limits: Limits::default(),
        supports: Supports { cancellation: true, ..Supports::default() },
    };
    Ok((capabilities, connection))
}

/// Returns the topics of a consumer, which have the same ordering.
async fn look_up(session: &Session, options: &ConsumerOptions) -> Result<Topic> {
    let mut topics = Vec::new();
    for name in &options.topics {
        let rows = session.ask("consume", Found::query(name)).arrive().await?;
        let found = Found::read("consume", name, &rows)?;
        if let Some(subscription) = options.subscription.as_ref().filter(|subscription| !found.has(subscription)) {
            return Err(topology::no_subscription("consume", subscription, name));
        }
        topics.push(found.topic);
    }
    let invalid = |message| Error::new(ErrorKind::InvalidArgument, "consume", message);
    let first = topics.pop().ok_or_else(|| invalid("a consumer needs at least one topic"))?;
    if topics.iter().any(|topic| topic.ordering != first.ordering) {
        return Err(invalid("the topics of one subscription must have the same ordering").of(&first.name));
    }
    if options.subscription.is_none() && first.kind == TopicKind::Queue {
        let message = "a queue cannot be broadcast: each of its messages is for one consumer only";
        return Err(invalid(message).of(&first.name));
    }
    Ok(first)
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
        self.open("declare")?;
        let address = &self.core.host.address;
        let mut connection = address.connect("declare").await?;
        let declared = timeout(address.patience, topology::declare(&mut connection, &address.schema, topology)).await;
        declared.map_err(|_| error::silent("declare").of(address))?
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.core.desk.lock().await.session(&self.core.host, "open a producer").await?;
        Ok(Box::new(TemplateProducer::new(self.core.clone(), options)))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        options.validate()?;
        let span = telemetry::consumer_span(SYSTEM, &options.topics, options.subscription.as_ref());
        async {
            let session = Session::open(&self.core.host, "consume").await?;
            let topic = look_up(&session, &options).await?;
            let kind = match (&options.subscription, topic.ordering) {
                (None, _) => Kind::Listening,
                (Some(name), Ordering::ByKey { .. }) => Kind::Ordered(name.clone()),
                (Some(name), Ordering::Shared) => Kind::Shared(name.clone()),
            };
            let group = Arc::new(Group::new(self.core.clone(), session, kind.clone(), &options.topics));
            Ok(Box::new(match (kind, topic.ordering) {
                (Kind::Listening, ordering) => {
                    group.open(&topic.name, options.credit.messages.get()).await?;
                    let partitions = if ordering == Ordering::Shared { 0 } else { ordering.partitions() };
                    Member::broadcast(group, &options, partitions, SYSTEM)
                }
                (Kind::Ordered(_), ordering) => Member::ordered(group, &options, ordering.partitions(), SYSTEM),
                (Kind::Shared(_), _) => Member::shared(group, &options, SYSTEM),
            }) as Box<dyn Consumer>)
        }
        .instrument(span)
        .await
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        Ok(Box::new(TemplateInbox::open(self.core.clone()).await?))
    }

    /// The answer would need a request.
    fn has_subscribers(&self, _topic: &TopicName) -> bool {
        true
    }

    async fn close(&self) -> Result<()> {
        self.core.host.closing.send_replace(true);
        // Accepted messages are still written: each session ends after its last request.
        self.core.host.running.closed().await;
        Ok(())
    }
}

impl fmt::Debug for Template {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("address", &self.core.host.address).finish_non_exhaustive()
    }
}
