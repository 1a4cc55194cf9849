//! The connections to the server.
//!
//! A [`Connection`] lives once. When it is lost, everything that depends on it fails at once, and the next caller that
//! needs a connection opens another. The client library would reconnect silently instead, and then send the messages
//! that had waited. But the messages that were written just before the loss are gone, and the later ones would overtake
//! their repetition.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::response::Response;
use async_nats::{Client, ConnectOptions, Event, ServerInfo, jetstream};
use partitura_broker::{Error, ErrorKind, Result, telemetry};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::{Mutex, OnceCell, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::acks::{self, Acks};
use crate::confirms::Confirms;
use crate::deletions::Deletions;
use crate::error;
use crate::options::{Auth, Settings};

/// The limit for connecting to one server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The interval of pings to a silent server. The connection is lost after two without an answer.
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// The limit for the answer to a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit for writing the last messages when the broker is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// An address without a server.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// Opens a connection when one is needed and none is alive.
pub(crate) struct Connector {
    settings: Arc<Settings>,
    state: Mutex<State>,
    closed: watch::Receiver<bool>,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    /// The servers of the cluster that are not in the settings.
    discovered: Vec<String>,
    failed: Option<FailedAttempt>,
}

struct FailedAttempt {
    at: Instant,
    error: Error,
}

impl Connector {
    pub(crate) fn new(settings: Arc<Settings>, closed: watch::Receiver<bool>) -> Self {
        Self { settings, state: Mutex::default(), closed }
    }

    /// Returns the connection, or opens a new one if none is alive. Callers at the same time share one attempt.
    pub(crate) async fn connection(&self, operation: &'static str) -> Result<Arc<Connection>> {
        let began = Instant::now();
        let mut closed = self.closed.clone();
        let connection = async {
            let mut state = self.state.lock().await;
            if let Some(connection) = state.connection.as_ref().filter(|connection| connection.is_alive()) {
                return Ok(connection.clone());
            }
            if let Some(failed) = state.failed.as_ref().filter(|failed| failed.at > began) {
                return Err(failed.error.duplicate());
            }
            state.connection = None;
            match Connection::open(&self.settings, &state.discovered).await {
                Ok(connection) => {
                    state.discovered.clone_from(&connection.info.connect_urls);
                    Ok(state.connection.insert(Arc::new(connection)).clone())
                }
                Err(error) => {
                    state.failed = Some(FailedAttempt { at: Instant::now(), error: error.duplicate() });
                    Err(error)
                }
            }
        };
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(error::closed(operation)),
            connection = connection => connection,
        }
    }

    /// Drops the connection, after its messages are written.
    pub(crate) async fn close(&self) {
        if let Some(connection) = self.state.lock().await.connection.take() {
            // A caller could do nothing about messages that are lost now, or stuck.
            let _ = timeout(CLOSE_TIMEOUT, connection.client.flush()).await;
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("servers", &self.settings.servers).finish_non_exhaustive()
    }
}

/// One connection to a server, for as long as it lasts.
pub(crate) struct Connection {
    pub(crate) client: Client,
    jetstream: jetstream::Context,
    /// The beginning of the subjects of the JetStream API.
    pub(crate) api: String,
    pub(crate) info: ServerInfo,
    pub(crate) acks: Acks,
    confirms: OnceCell<Arc<Confirms>>,
    deletions: OnceCell<Deletions>,
    lost: watch::Receiver<bool>,
    sending_acks: JoinHandle<()>,
}

impl Connection {
    async fn open(settings: &Settings, discovered: &[String]) -> Result<Self> {
        let scheme = if settings.tls { "tls" } else { "nats" };
        let discovered = discovered.iter().map(|host| format!("{scheme}://{host}"));
        let mut servers: Vec<String> = settings.servers.iter().cloned().chain(discovered).collect();
        // Clients spread over the servers.
        let first = RandomState::new().build_hasher().finish() as usize % servers.len();
        servers.rotate_left(first);
        let mut failed = None;
        for server in &servers {
            match Self::connect(settings, server).await {
                Ok(connection) => return Ok(connection),
                Err(error) if error.kind() == ErrorKind::Unauthorized => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| error::disconnected("connect")))
    }

    async fn connect(settings: &Settings, server: &str) -> Result<Self> {
        let (tell, lost) = watch::channel(false);
        let options = with_credentials(settings, ConnectOptions::new()).await?;
        let options = with_certificates(settings, options)
            .name(&settings.name)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .max_reconnects(1)
            .ignore_discovered_servers()
            .event_callback(move |event| {
                on_event(&tell, &event);
                std::future::ready(())
            });
        let client = options.connect(server).await.map_err(|error| error::connecting(server, error))?;
        // The client library has no option not to reconnect. With an address of no server it fails, and ends.
        let pool = client.set_server_pool(NOWHERE).await;
        pool.map_err(|e| {
            Error::new(ErrorKind::Disconnected, "connect", "the connection was lost").of(server).because(e)
        })?;
        let (acks, tasks) = mpsc::unbounded_channel();
        Ok(Self {
            jetstream: jetstream::with_prefix(client.clone(), &settings.api),
            api: settings.api.clone(),
            info: client.server_info(),
            acks: Acks::new(acks),
            confirms: OnceCell::new(),
            deletions: OnceCell::new(),
            lost,
            sending_acks: tokio::spawn(acks::send(client.clone(), tasks)),
            client,
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        !*self.lost.borrow()
    }

    /// Waits until the connection is lost.
    pub(crate) async fn lost(&self) {
        // Without its sender the connection is lost as well.
        let _ = self.lost.clone().wait_for(|lost| *lost).await;
    }

    /// The confirms of published messages.
    pub(crate) async fn confirms(&self) -> Result<&Arc<Confirms>> {
        let open = async || Confirms::open(&self.client).await.map(Arc::new);
        self.confirms.get_or_try_init(open).await
    }

    /// The deletions of consumers from now on.
    pub(crate) async fn deletions(&self) -> Result<&Deletions> {
        self.deletions.get_or_try_init(|| Deletions::open(&self.client)).await
    }

    /// Waits until the server has taken everything that was sent before.
    pub(crate) async fn arrived(&self, operation: &'static str) -> Result<()> {
        // Any request will do: it is answered after that.
        self.ask::<serde_json::Value>(operation, &"the server", "INFO".to_owned(), &json!({})).await.map(drop)
    }

    /// Sends a request to JetStream. The inner result is the server's answer, which may be a refusal.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        what: &impl fmt::Display,
        request: String,
        payload: &impl Serialize,
    ) -> Result<Result<T, jetstream::Error>> {
        match self.jetstream.request(request, payload).await {
            Ok(Response::Ok(answer)) => Ok(Ok(answer)),
            Ok(Response::Err { error }) => Ok(Err(error)),
            Err(error) => Err(error::unanswered(operation, what, error)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.sending_acks.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("server", &self.info.server_name).field("alive", &self.is_alive()).finish()
    }
}

fn on_event(lost: &watch::Sender<bool>, event: &Event) {
    match event {
        // A message was dropped, because the client's buffer was full. It is missing in the order of its key, so
        // everything starts again on a new connection.
        Event::Disconnected | Event::Closed | Event::SlowConsumer(_) => drop(lost.send_replace(true)),
        Event::ServerError(error) => tracing::warn!(target: telemetry::TARGET, %error, "the server reports an error"),
        _ => {}
    }
}

async fn with_credentials(settings: &Settings, options: ConnectOptions) -> Result<ConnectOptions> {
    let unreadable = |path: &std::path::Path, error: std::io::Error| {
        Error::new(ErrorKind::Unauthorized, "connect", "cannot read the credentials").of(path.display()).because(error)
    };
    Ok(match &settings.auth {
        None => options,
        Some(Auth::Password { username, password }) => options.user_and_password(username.clone(), password.clone()),
        Some(Auth::Token(token)) => options.token(token.clone()),
        Some(Auth::Seed(seed)) => options.nkey(seed.clone()),
        Some(Auth::Credentials(path)) => {
            options.credentials_file(path).await.map_err(|error| unreadable(path, error))?
        }
        Some(Auth::NKey(path)) => {
            let read = tokio::fs::read_to_string(path).await;
            options.nkey(read.map_err(|error| unreadable(path, error))?.trim().to_owned())
        }
    })
}

fn with_certificates(settings: &Settings, options: ConnectOptions) -> ConnectOptions {
    let options = options.require_tls(settings.tls);
    let options = match &settings.ca {
        Some(authority) => options.add_root_certificates(authority.clone()),
        None => options,
    };
    match &settings.tls_client {
        Some((certificate, key)) => options.add_client_certificate(certificate.clone(), key.clone()),
        None => options,
    }
}
