use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use partitura_broker::{Error, ErrorKind, Result};
use pulsar::proto::command_lookup_topic_response::LookupType;
use tokio::sync::OnceCell;
use tokio_rustls::rustls::ClientConfig;

use super::command;
use super::connection::Connection;
use super::identity::Identity;
use crate::error;
use crate::names::FullName;
use crate::options::{Host, Target};

/// The number of times that a lookup is sent on from one broker to another.
const REDIRECTS: usize = 10;

/// The purpose of a connection. A broker that holds a publisher back stops reading from its connection, which must not
/// hold back settlements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Publish,
    Consume,
}

/// The brokers of a cluster, and the connections to them.
#[derive(Debug)]
pub(crate) struct Cluster {
    target: Target,
    tls: Option<Arc<ClientConfig>>,
    identity: Arc<Identity>,
    /// One cell for each connection, so that all callers that want the same one wait for one attempt.
    connections: Mutex<HashMap<Address, Arc<OnceCell<Arc<Connection>>>>>,
    closed: AtomicBool,
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Address {
    host: Host,
    /// The broker behind a proxy.
    broker: Option<String>,
    purpose: Purpose,
}

impl Cluster {
    pub(crate) fn new(target: Target, tls: Arc<ClientConfig>, identity: Arc<Identity>) -> Self {
        let tls = target.tls.then_some(tls);
        Self { target, tls, identity, connections: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// Connects to any broker, to see that there is one and that it accepts the credentials.
    pub(crate) async fn reach(&self) -> Result<()> {
        self.first_host("connect", Purpose::Consume).await.map(drop)
    }

    /// A connection to the broker that serves a topic now.
    pub(crate) async fn serving(
        &self,
        operation: &'static str,
        topic: &FullName,
        purpose: Purpose,
    ) -> Result<Arc<Connection>> {
        let mut address = self.first_host(operation, purpose).await?;
        let mut authoritative = false;
        for _ in 0..REDIRECTS {
            let connection = self.connection(operation, address.clone()).await?;
            let listener = self.target.options.listener.clone();
            let ask = |request| command::lookup(request, topic.to_string(), authoritative, listener);
            let answer = connection.request(operation, ask).await?;
            let found = answer
                .lookup_topic_response
                .ok_or_else(|| error::unexpected(operation, "an answer to another question"))?;
            let Some(LookupType::Connect | LookupType::Redirect) =
                found.response.and_then(|response| LookupType::try_from(response).ok())
            else {
                let (code, text) = (found.error.unwrap_or_default(), found.message.unwrap_or_default());
                return Err(error::from_server(operation, code, &text));
            };
            let url = if self.tls.is_some() { &found.broker_service_url_tls } else { &found.broker_service_url };
            let host = self.host(operation, url.as_deref().unwrap_or_default())?;
            authoritative = found.authoritative.unwrap_or(false);
            address = match found.proxy_through_service_url.unwrap_or(false) {
                true => Address { broker: Some(host.to_string()), ..address },
                false => Address { host, broker: None, purpose },
            };
            if found.response == Some(LookupType::Connect as i32) {
                return self.connection(operation, address).await;
            }
        }
        Err(error::unexpected(operation, "the brokers send a lookup around in a circle").of(topic))
    }

    /// The first of the hosts that accepts a connection.
    async fn first_host(&self, operation: &'static str, purpose: Purpose) -> Result<Address> {
        let mut last = None;
        for host in &self.target.hosts {
            let address = Address { host: host.clone(), broker: None, purpose };
            match self.connection(operation, address.clone()).await {
                Ok(_) => return Ok(address),
                Err(error) if error.is_retryable() => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| error::disconnected(operation)))
    }

    async fn connection(&self, operation: &'static str, address: Address) -> Result<Arc<Connection>> {
        let cell = {
            let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, cell| cell.get().is_none_or(|connection| connection.is_open()));
            all.entry(address.clone()).or_default().clone()
        };
        let open = || async {
            self.check(operation)?;
            let identity = self.identity.clone();
            let opened = Connection::open(&address.host, address.broker.clone(), self.tls.as_ref(), identity).await?;
            Ok::<_, Error>(Arc::new(opened))
        };
        let connection = cell.get_or_try_init(open).await?.clone();
        // The cluster may have been closed meanwhile.
        self.check(operation).map(|()| connection)
    }

    pub(crate) fn check(&self, operation: &'static str) -> Result<()> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(error::closed(operation)),
            false => Ok(()),
        }
    }

    /// Writes all queued commands, and closes all connections for good.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let all = std::mem::take(&mut *self.connections.lock().unwrap_or_else(PoisonError::into_inner));
        for cell in all.into_values() {
            if let Some(connection) = cell.get() {
                connection.close().await;
            }
        }
    }

    /// The host in a URL that a broker gave.
    fn host(&self, operation: &'static str, url: &str) -> Result<Host> {
        let parsed = Target::parse(url, self.target.options.clone()).ok();
        parsed.and_then(|target| target.hosts.into_iter().next()).ok_or_else(|| {
            let message = format!(
                "the broker sends clients to {url:?}; check its advertised listeners, and that it offers connections {} TLS",
                if self.tls.is_some() { "with" } else { "without" }
            );
            Error::new(ErrorKind::Incompatible, operation, message)
        })
    }
}
