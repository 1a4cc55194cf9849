//! The connections to the broker.

mod link;
mod requests;
mod sasl;
mod socket;

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use fe2o3_amqp::connection::{Connection, ConnectionHandle};
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::{Session, SessionHandle};
use partitura_broker::{Error, ErrorKind, InboxAddress, Result};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

pub(crate) use self::link::{Node, Senders, receiver, sender};
pub(crate) use self::requests::{Fields, Requests};
use crate::error::{closed, lost, of_opening};
use crate::options::{Login, Target};

/// The limit for an answer of the broker.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit for closing a connection in good order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes connections, until the broker is closed.
#[derive(Debug)]
pub(crate) struct Client {
    target: Target,
    tls: Option<Arc<ClientConfig>>,
    closed: watch::Sender<bool>,
    connectors: std::sync::Mutex<Vec<Weak<Connector>>>,
}

/// A connection that its users share.
pub(crate) type Shared = Arc<Mutex<ConnectionHandle<()>>>;

/// One connection for one purpose. It is opened when it is needed, and again after it is lost.
///
/// A broker has several of them: what it reads from one connection, it handles in order, and a slow message would hold
/// up settlements.
#[derive(Debug)]
pub(crate) struct Connector {
    client: Arc<Client>,
    purpose: &'static str,
    /// Held while connecting, so that all callers that wait for the same connection share one attempt.
    open: Mutex<Option<Shared>>,
}

impl Client {
    pub(crate) fn new(target: Target) -> Result<Arc<Self>> {
        let tls = if target.tls { Some(socket::tls_config(&target)?) } else { None };
        Ok(Arc::new(Self { target, tls, closed: watch::Sender::new(false), connectors: std::sync::Mutex::default() }))
    }

    pub(crate) fn connector(self: &Arc<Self>, purpose: &'static str) -> Arc<Connector> {
        let connector = Arc::new(Connector { client: self.clone(), purpose, open: Mutex::default() });
        let mut connectors = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        connectors.retain(|connector| connector.strong_count() > 0);
        connectors.push(Arc::downgrade(&connector));
        connector
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until the broker is closed.
    pub(crate) async fn closed(&self) {
        // The sender is part of `self`, so it exists.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Makes no further connections.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Closes all connections.
    pub(crate) async fn close_connections(&self) {
        let connectors = std::mem::take(&mut *self.connectors.lock().unwrap_or_else(PoisonError::into_inner));
        for connector in connectors.iter().filter_map(Weak::upgrade) {
            let Some(connection) = connector.open.lock().await.take() else { continue };
            let closing = async { connection.lock().await.close().await };
            // A connection that is lost already, or does not answer, is closed by its end.
            let _ = timeout(CLOSE_TIMEOUT, closing).await;
        }
    }

    async fn connect(&self, purpose: &str) -> Result<ConnectionHandle<()>> {
        let within = self.target.connect_within;
        let connected = timeout(within, self.log_in(purpose)).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Disconnected, "connect", format!("no answer within {within:?}")))
        });
        connected.map_err(|error| error.of(self.target.address()))
    }

    async fn log_in(&self, purpose: &str) -> Result<ConnectionHandle<()>> {
        let mut socket = socket::open(&self.target, self.tls.as_ref()).await?;
        let sasl = match &self.target.login {
            Login::Password { user, password } => {
                Some(SaslProfile::Plain { username: user.clone(), password: password.clone() })
            }
            Login::Certificate { .. } => {
                sasl::external(&mut socket).await?;
                None
            }
            Login::Anonymous => Some(SaslProfile::Anonymous),
        };
        let idle = u32::try_from(self.target.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        // TLS is ours, so the client is told of none.
        let mut builder = Connection::builder()
            .container_id(format!("partitura-{purpose}-{}", InboxAddress::secret()))
            .hostname(self.target.host.as_str())
            .scheme("amqp")
            .channel_max(u16::MAX)
            .idle_time_out(idle);
        if let Some(sasl) = sasl {
            builder = builder.sasl_profile(sasl);
        }
        builder.open_with_stream(socket).await.map_err(of_opening)
    }
}

impl Connector {
    /// Returns the connection, or opens a new one if there is none or if it was lost.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn connection(&self) -> Result<Shared> {
        let mut open = self.open.lock().await;
        if self.client.is_closed() {
            return Err(closed("connect"));
        }
        if let Some(connection) = open.as_ref()
            && !connection.lock().await.is_closed()
        {
            return Ok(connection.clone());
        }
        let connection = Arc::new(Mutex::new(self.client.connect(self.purpose).await?));
        *open = Some(connection.clone());
        Ok(connection)
    }

    /// A new session. An error that ends one session leaves the others alone.
    pub(crate) async fn session(&self, operation: &'static str) -> Result<SessionHandle<()>> {
        let connection = self.connection().await?;
        let beginning = async { Session::begin(&mut *connection.lock().await).await };
        match answer(operation, beginning).await? {
            Ok(session) => Ok(session),
            Err(error) => Err(self.explain(operation, error)),
        }
    }

    /// The error of something that was lost. If the broker was closed, that is the reason.
    pub(crate) fn explain(
        &self,
        operation: &'static str,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        if self.client.is_closed() { closed(operation) } else { lost(operation, error) }
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

/// Waits for the broker's answer, up to a limit: the idle time-out of the connection does not notice a lost answer.
pub(crate) async fn answer<T>(operation: &'static str, request: impl Future<Output = T>) -> Result<T> {
    let late = || Error::new(ErrorKind::Timeout, operation, format!("no answer within {REQUEST_TIMEOUT:?}"));
    timeout(REQUEST_TIMEOUT, request).await.map_err(|_| late())
}

/// Runs `work` to its end, also if the caller is dropped: the client does not promise that its requests may be dropped.
pub(crate) async fn uncancelled<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|ended| {
        let message = "the runtime is shutting down, or the adapter panicked";
        Err(Error::new(ErrorKind::Closed, "ask the broker", message).because(ended))
    })
}
