//! The connections to the broker.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::{Channel, ChannelState, Connection, ConnectionProperties, ErrorKind as Refusal};
use partitura_broker::{Error, ErrorKind, Result};
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};

use crate::error::{classify, closed};
use crate::hold::HoldLimit;
use crate::options::Target;

/// The limit for an answer of the broker. Only a stuck request takes as long: a queue without a leader, a client that
/// lost count.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause before a connection is asked again to close.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Makes connections, until the broker is closed.
#[derive(Debug)]
pub(crate) struct Client {
    target: Target,
    closed: watch::Sender<bool>,
    hold_limit: Arc<HoldLimit>,
    /// The number of channels that the server allows in a connection. The newest connection has learned it.
    channel_max: AtomicU16,
    connectors: std::sync::Mutex<Vec<Weak<Connector>>>,
}

/// One connection for one purpose. It is opened when it is needed, and again after it is lost.
///
/// A broker has several of them. RabbitMQ stops reading from a connection that publishes while its memory or disk is
/// short, and would not read settlements there.
#[derive(Debug)]
pub(crate) struct Connector {
    client: Arc<Client>,
    purpose: &'static str,
    /// Held while connecting, so that all callers that wait for the same connection share one attempt.
    open: Mutex<Option<Arc<Connection>>>,
}

impl Client {
    pub(crate) fn new(target: Target) -> Arc<Self> {
        let (closed, hold_limit) = (watch::Sender::new(false), Arc::new(HoldLimit::new(target.hold)));
        let (channel_max, connectors) = (AtomicU16::new(u16::MAX), std::sync::Mutex::default());
        Arc::new(Self { target, closed, hold_limit, channel_max, connectors })
    }

    pub(crate) fn connector(self: &Arc<Self>, purpose: &'static str) -> Arc<Connector> {
        let connector = Arc::new(Connector { client: self.clone(), purpose, open: Mutex::default() });
        let mut connectors = self.connectors.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        connectors.retain(|connector| connector.strong_count() > 0);
        connectors.push(Arc::downgrade(&connector));
        connector
    }

    /// The time for which a delivery may be held.
    pub(crate) fn hold_limit(&self) -> &Arc<HoldLimit> {
        &self.hold_limit
    }

    /// The number of channels that the server allows in a connection, as far as it is known.
    pub(crate) fn channel_max(&self) -> u16 {
        self.channel_max.load(Ordering::Relaxed)
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
    pub(crate) async fn close_connections(&self) -> Result<()> {
        let connectors =
            std::mem::take(&mut *self.connectors.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let mut result = Ok(());
        for connector in connectors.iter().filter_map(Weak::upgrade) {
            let Some(connection) = connector.open.lock().await.take() else { continue };
            let answer = timeout(self.target.connect_within, close(&connection)).await;
            result = result.and(answer.unwrap_or(Ok(())).map_err(|error| classify("close", error)));
        }
        result
    }

    async fn connect(&self, purpose: &str) -> Result<Connection> {
        let Target { uri, authorities, connect_within, .. } = &self.target;
        let properties = ConnectionProperties::default().with_connection_name(format!("partitura: {purpose}").into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: authorities.clone() };
        let runtime = lapin::runtime::default_runtime().map_err(|error| classify("connect", error))?;
        let connecting = Connection::connect_uri_with_config(uri.clone(), properties, tls, runtime);
        let Ok(connected) = timeout(*connect_within, connecting).await else {
            let message = format!("no answer within {connect_within:?}");
            return Err(Error::new(ErrorKind::Disconnected, "connect", message).of(self.target.address()));
        };
        let connection = connected.map_err(|error| classify("connect", error).of(self.target.address()))?;
        self.channel_max.store(connection.configuration().channel_max(), Ordering::Relaxed);
        Ok(connection)
    }
}

/// Closes a connection. A consumer that has just gone may still be closing a channel of it. Then the client library
/// refuses, so that it is asked again.
async fn close(connection: &Connection) -> lapin::Result<()> {
    while connection.status().connected() {
        match connection.close(200, "closed by its owner".into()).await {
            Err(error) if matches!(error.kind(), Refusal::InvalidChannelState(ChannelState::Closing, _)) => {
                sleep(ASK_AGAIN).await;
            }
            closed => return closed,
        }
    }
    Ok(())
}

impl Connector {
    /// Returns the connection, or opens a new one if there is none or if it was lost.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>> {
        let mut open = self.open.lock().await;
        if self.client.is_closed() {
            return Err(closed("connect"));
        }
        if let Some(connection) = open.as_ref().filter(|connection| connection.status().connected()) {
            return Ok(connection.clone());
        }
        let connection = Arc::new(self.client.connect(self.purpose).await?);
        *open = Some(connection.clone());
        Ok(connection)
    }

    /// A new channel.
    pub(crate) async fn channel(&self) -> Result<Channel> {
        Ok(self.channel_and_connection().await?.0)
    }

    /// A new channel, and its connection.
    pub(crate) async fn channel_and_connection(&self) -> Result<(Channel, Arc<Connection>)> {
        let connection = self.connection().await?;
        Ok((self.channel_on(&connection).await?, connection))
    }

    /// A new channel of a connection.
    pub(crate) async fn channel_on(&self, connection: &Arc<Connection>) -> Result<Channel> {
        let opened = open_channel(connection).await;
        if opened.as_ref().is_err_and(|error| matches!(error.kind(), lapin::ErrorKind::ChannelsLimitReached)) {
            // The connection's channel numbers are used up: the next caller gets another connection.
            self.open.lock().await.take_if(|open| Arc::ptr_eq(open, connection));
        }
        opened.map_err(|error| self.explain("open a channel", error))
    }

    /// Closes a connection that has something at the broker that cannot be given back otherwise. Its claims are lost.
    pub(crate) async fn abandon(&self, connection: &Arc<Connection>, why: &str) {
        if !connection.status().connected() {
            return;
        }
        tracing::warn!("closing the connection for {}: {why}", self.purpose);
        self.open.lock().await.take_if(|open| Arc::ptr_eq(open, connection));
        // A broker that is stuck closes it when it goes on.
        let _ = answer(close(connection)).await;
    }

    /// Classifies an error. If the broker was closed, that is the reason.
    pub(crate) fn explain(&self, operation: &'static str, error: lapin::Error) -> Error {
        if self.client.is_closed() { closed(operation) } else { classify(operation, error) }
    }

    /// The error of a claim whose channel or connection was lost. It is retryable, whatever ended the channel: the
    /// client fails all requests of a connection with the first error that it meets there, which may be that of
    /// another request.
    pub(crate) fn lost(&self, operation: &'static str, error: lapin::Error) -> Error {
        match self.explain(operation, error) {
            error if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Unauthorized) => error,
            error if error.is_retryable() => error,
            error => Error::new(ErrorKind::Disconnected, operation, "the channel was lost").because(error),
        }
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

/// Waits for the broker's answer, up to a limit: heartbeats of the connection do not notice a lost answer.
pub(crate) async fn answer<T>(request: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {REQUEST_TIMEOUT:?}"));
    timeout(REQUEST_TIMEOUT, request).await.unwrap_or_else(|_| Err(late().into()))
}

/// Opens a channel.
///
/// When the broker closes a channel for an error, the client (lapin 4.12) answers the next channel of the same number
/// with that error. It uses a number again after 2,047 others. Such an answer comes at once, without a request to the
/// broker, and the number is not used a third time. So the next number is tried.
async fn open_channel(connection: &Connection) -> lapin::Result<Channel> {
    loop {
        match answer(connection.create_channel()).await {
            Err(error) if error.is_amqp_soft_error() => {}
            opened => return opened,
        }
    }
}

/// Runs `work` to its end, also if the caller is dropped. This is for requests that the broker may refuse by closing
/// the channel. If the client closes the same channel at that moment, it (lapin 4.12) takes the whole connection for
/// broken.
pub(crate) async fn uncancelled<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|ended| {
        let message = "the runtime is shutting down, or the adapter panicked";
        Err(Error::new(ErrorKind::Closed, "ask the broker", message).because(ended))
    })
}
