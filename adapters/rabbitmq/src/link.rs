use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::{Channel, Connection, ConnectionProperties};
use partitura_broker::{Error, ErrorKind, Result};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::error::{classify, closed};
use crate::hold::Hold;
use crate::options::Target;

/// How long the broker has for an answer. Only what is stuck takes as long: a queue without a leader, a client that lost count.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Where connections come from, until the broker is closed.
#[derive(Debug)]
pub(crate) struct Dial {
    target: Target,
    closed: watch::Sender<bool>,
    hold: Arc<Hold>,
    links: std::sync::Mutex<Vec<Weak<Link>>>,
}

/// One connection for one purpose, connected when it is needed and again when it is lost.
///
/// There are several of them to one broker, because RabbitMQ stops reading from a whole connection that publishes while
/// its memory or disk is short, settlements included, and because the lock of a partition belongs to a connection.
#[derive(Debug)]
pub(crate) struct Link {
    dial: Arc<Dial>,
    purpose: &'static str,
    /// Held while connecting, so that all who wait for the same connection wait for one attempt.
    open: Mutex<Option<Arc<Connection>>>,
}

impl Dial {
    pub(crate) fn new(target: Target) -> Arc<Self> {
        let (closed, hold) = (watch::Sender::new(false), Arc::new(Hold::new(target.hold)));
        Arc::new(Self { target, closed, hold, links: std::sync::Mutex::default() })
    }

    pub(crate) fn link(self: &Arc<Self>, purpose: &'static str) -> Arc<Link> {
        let link = Arc::new(Link { dial: self.clone(), purpose, open: Mutex::default() });
        let mut links = self.links.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
        link
    }

    /// For how long a delivery may be held.
    pub(crate) fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until the broker is closed.
    pub(crate) async fn until_closed(&self) {
        // The sender is part of `self`, and is not dropped meanwhile.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// No further connections are made.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Closes the connections there are.
    pub(crate) async fn hang_up(&self) -> Result<()> {
        let links = std::mem::take(&mut *self.links.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let mut result = Ok(());
        for link in links.iter().filter_map(Weak::upgrade) {
            let Some(connection) = link.open.lock().await.take() else { continue };
            if connection.status().connected() {
                let goodbye = connection.close(200, "closed by its owner".into());
                let answer = timeout(self.target.connect_within, goodbye).await;
                result = result.and(answer.unwrap_or(Ok(())).map_err(|error| classify(error, "close")));
            }
        }
        result
    }

    async fn connect(&self, purpose: &str) -> Result<Connection> {
        let Target { uri, authorities, connect_within, .. } = &self.target;
        let properties = ConnectionProperties::default().with_connection_name(format!("partitura: {purpose}").into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: authorities.clone() };
        let runtime = lapin::runtime::default_runtime().map_err(|error| classify(error, "connect"))?;
        let connecting = Connection::connect_uri_with_config(uri.clone(), properties, tls, runtime);
        match timeout(*connect_within, connecting).await {
            Ok(connected) => connected.map_err(|error| classify(error, "connect").of(self.target.address())),
            Err(_) => {
                let message = format!("no answer within {connect_within:?}");
                Err(Error::new(ErrorKind::Disconnected, "connect", message).of(self.target.address()))
            }
        }
    }
}

impl Link {
    /// The connection; a new one where there is none, or where it was lost.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>> {
        let mut open = self.open.lock().await;
        if self.dial.is_closed() {
            return Err(closed("connect"));
        }
        if let Some(connection) = open.as_ref().filter(|connection| connection.status().connected()) {
            return Ok(connection.clone());
        }
        let connection = Arc::new(self.dial.connect(self.purpose).await?);
        *open = Some(connection.clone());
        Ok(connection)
    }

    /// A new channel.
    pub(crate) async fn channel(&self) -> Result<Channel> {
        let connection = self.connection().await?;
        let opened = open_channel(&connection).await;
        if opened.as_ref().is_err_and(|error| matches!(error.kind(), lapin::ErrorKind::ChannelsLimitReached)) {
            // Its numbers are used up: the next one who asks gets another connection.
            self.open.lock().await.take_if(|open| Arc::ptr_eq(open, &connection));
        }
        opened.map_err(|error| self.explain(error, "open a channel"))
    }

    /// The same error, or that the broker was closed, if it was.
    pub(crate) fn explain(&self, error: lapin::Error, operation: &'static str) -> Error {
        if self.dial.is_closed() { closed(operation) } else { classify(error, operation) }
    }

    /// That what was held by way of this connection is lost, whatever ended it: the client fails everything that waits on
    /// a connection with the first error that it meets there, be it another one's.
    pub(crate) fn lost(&self, error: lapin::Error, operation: &'static str) -> Error {
        match self.explain(error, operation) {
            error if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Unauthorized) => error,
            error if error.is_retryable() => error,
            error => Error::new(ErrorKind::Disconnected, operation, "the channel was lost").because(error),
        }
    }

    pub(crate) fn dial(&self) -> &Arc<Dial> {
        &self.dial
    }
}

/// Waits for the broker's answer, and not for ever: a lost answer is nothing that a connection's heartbeat notices.
pub(crate) async fn answer<T>(asking: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {ANSWER_WITHIN:?}"));
    timeout(ANSWER_WITHIN, asking).await.unwrap_or_else(|_| Err(late().into()))
}

/// Opens a channel.
///
/// When the broker closes a channel for an error, the client (lapin 4.12) answers every later channel of the same number
/// with that error, and gives numbers out again after 2,047. Such an answer comes at once, the broker is not asked, and
/// the number is not given out a third time: so the next one is tried.
pub(crate) async fn open_channel(connection: &Connection) -> lapin::Result<Channel> {
    loop {
        match answer(connection.create_channel()).await {
            Err(error) if error.is_amqp_soft_error() => {}
            opened => return opened,
        }
    }
}

/// Runs to its end although the caller may be dropped: for requests that the broker may refuse by closing the channel. If
/// the client gives up the same channel at that moment, it (lapin 4.12) takes the whole connection for broken.
pub(crate) async fn uncancelled<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|ended| {
        let message = "the runtime is shutting down, or the adapter panicked";
        Err(Error::new(ErrorKind::Closed, "ask the broker", message).because(ended))
    })
}
