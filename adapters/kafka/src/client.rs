//! The connection: the admin client and the producer that everything on it shares.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{Error, ErrorKind, Result};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{FromClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataBroker;
use rdkafka::producer::Producer;

use crate::health::Health;
use crate::options::Target;
use crate::record_producer::{RecordProducer, Reports};
use crate::{error, names};

/// The longest time that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time in which a broker has to answer. If there is nothing but refusals by then, they are believed.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(300);
/// The longest time that a request to the brokers may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The admin client. It reports nothing but answers.
pub(crate) type Admin = AdminClient<DefaultClientContext>;

/// A connection to the brokers.
pub(crate) struct Client {
    target: Target,
    /// The brokers at the time of the connect. The first one has answered.
    brokers: Vec<i32>,
    admin: Arc<Admin>,
    producer: Mutex<Arc<RecordProducer>>,
    health: Mutex<Arc<Health>>,
    is_closed: AtomicBool,
}

impl Client {
    /// Connects, and waits for the first answer of a broker.
    pub(crate) async fn connect(target: Target) -> Result<Self> {
        let connect = move || Self::connect_blocking(target);
        tokio::task::spawn_blocking(connect).await.map_err(|_| error::closed("connect"))?
    }

    fn connect_blocking(target: Target) -> Result<Self> {
        let health = Arc::new(Health::default());
        let mut config = target.config();
        // rdkafka never reads the admin client's queue of logs.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        let admin = Admin::from_config(&target.finish(config));
        let admin = Arc::new(admin.map_err(|source| error::error("connect", source))?);
        let producer = RecordProducer::start(&target, health.clone(), admin.clone())?;
        let brokers = find_brokers(&producer, &health)?;
        let (producer, health) = (Mutex::new(Arc::new(producer)), Mutex::new(health));
        Ok(Self { target, brokers, admin, producer, health, is_closed: AtomicBool::new(false) })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn brokers(&self) -> &[i32] {
        &self.brokers
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Fails if the connection was closed.
    pub(crate) fn ensure_open(&self, operation: &'static str) -> Result<()> {
        if self.is_closed() { Err(error::closed(operation)) } else { Ok(()) }
    }

    pub(crate) fn admin(&self) -> Result<Arc<Admin>> {
        self.ensure_open("declare")?;
        Ok(self.admin.clone())
    }

    /// The producer. After a fatal error it is replaced.
    pub(crate) fn producer(&self) -> Result<Arc<RecordProducer>> {
        self.ensure_open("publish")?;
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health.fatal() {
            tracing::warn!(target: TARGET, "replacing the producer after a fatal error");
            let fresh = Arc::new(Health::default());
            *producer = Arc::new(RecordProducer::start(&self.target, fresh.clone(), self.admin.clone())?);
            *health = fresh;
        }
        Ok(producer.clone())
    }

    /// Asks the brokers by a request that blocks.
    pub(crate) async fn ask<T, F>(&self, operation: &'static str, ask: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&rdkafka::client::Client<Reports>) -> KafkaResult<T> + Send + 'static,
    {
        let producer = self.producer()?.raw().clone();
        let answer = self.blocking(operation, move || ask(producer.client())).await?;
        answer.map_err(|source| error::error(operation, source))
    }

    /// Runs a task that blocks, on a thread for such tasks.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.ensure_open(operation)?;
        tokio::task::spawn_blocking(task).await.map_err(|_| error::closed(operation))
    }

    /// Accepts no more calls. Returns the producer, whose records may still be on their way. `None` if the
    /// connection was closed before.
    pub(crate) fn close(&self) -> Option<Arc<RecordProducer>> {
        let producer = self.producer().ok()?;
        self.is_closed.store(true, Ordering::Release);
        Some(producer)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Waits for the first answer, and returns the brokers of the cluster. Blocks.
fn find_brokers(producer: &RecordProducer, health: &Health) -> Result<Vec<i32>> {
    let began = Instant::now();
    loop {
        let client = producer.raw().client();
        let failed = match client.fetch_metadata(Some(names::REPLIES), ANSWER_TIMEOUT) {
            Ok(metadata) if !metadata.brokers().is_empty() => {
                let mut brokers: Vec<i32> = metadata.brokers().iter().map(MetadataBroker::id).collect();
                // The one that answered comes first. The client may not know yet which one that was.
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
        if began.elapsed() > CONNECT_TIMEOUT {
            let text = "no broker answered within 10 s; check the servers in the URL and the security protocol";
            return Err(Error::new(ErrorKind::Disconnected, "connect", text).because(failed));
        }
    }
}
