//! The way to the server.
//!
//! A [`Link`] is one connection and lives once: when it is lost, everything that hung on it ends at once and says so, and the
//! next who needs one opens another. The client would rather reconnect silently, and send then what had waited meanwhile; but
//! what was written just before is gone, and what comes later would overtake its repetition.

use serde_json::json;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::response::Response;
use async_nats::{Client, ConnectOptions, Event, ServerInfo, jetstream};
use partitura_broker::{Error, ErrorKind, Result, telemetry};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, OnceCell, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::acks::{self, Acks};
use crate::confirms::Confirms;
use crate::deletions::Deletions;
use crate::error;
use crate::options::{Auth, Settings};

/// How long connecting to one server may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How often a silent server is asked whether it is there. One that did not answer twice is lost.
const PING: Duration = Duration::from_secs(3);
/// How long the server may take for a request.
const REQUEST: Duration = Duration::from_secs(10);
/// How long closing waits for what was given to the connection.
const FAREWELL: Duration = Duration::from_secs(5);
/// An address that nobody answers at.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// Opens a link when one is needed and there is none.
pub(crate) struct Connection {
    settings: Arc<Settings>,
    state: Mutex<State>,
    closed: watch::Receiver<bool>,
}

#[derive(Default)]
struct State {
    link: Option<Arc<Link>>,
    /// Servers of the cluster that are not in the settings.
    discovered: Vec<String>,
    failed: Option<(Instant, Error)>,
}

impl Connection {
    pub(crate) fn new(settings: Arc<Settings>, closed: watch::Receiver<bool>) -> Self {
        Self { settings, state: Mutex::default(), closed }
    }

    /// The link that there is, or a new one. Those who ask at the same time share one attempt.
    pub(crate) async fn link(&self, operation: &'static str) -> Result<Arc<Link>> {
        let began = Instant::now();
        let mut closed = self.closed.clone();
        let link = async {
            let mut state = self.state.lock().await;
            if let Some(link) = state.link.as_ref().filter(|link| link.is_alive()) {
                return Ok(link.clone());
            }
            if let Some((_, error)) = state.failed.as_ref().filter(|(at, _)| *at > began) {
                return Err(error.duplicate());
            }
            state.link = None;
            match Link::open(&self.settings, &state.discovered).await {
                Ok(link) => {
                    state.discovered.clone_from(&link.info.connect_urls);
                    Ok(state.link.insert(Arc::new(link)).clone())
                }
                Err(error) => {
                    state.failed = Some((Instant::now(), error.duplicate()));
                    Err(error)
                }
            }
        };
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(error::closed(operation)),
            link = link => link,
        }
    }

    /// Lets go of the link, after what was given to it is written.
    pub(crate) async fn close(&self) {
        if let Some(link) = self.state.lock().await.link.take() {
            // Nobody could do anything about what is lost now, or stuck.
            let _ = timeout(FAREWELL, link.client.flush()).await;
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("servers", &self.settings.servers).finish_non_exhaustive()
    }
}

/// One connection, for as long as it lasts.
pub(crate) struct Link {
    pub(crate) client: Client,
    jetstream: jetstream::Context,
    /// What the subjects of the JetStream API begin with.
    pub(crate) api: String,
    pub(crate) info: ServerInfo,
    pub(crate) acks: Acks,
    confirms: OnceCell<Arc<Confirms>>,
    deletions: OnceCell<Deletions>,
    lost: watch::Receiver<bool>,
    acknowledging: JoinHandle<()>,
}

impl Link {
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
                Ok(link) => return Ok(link),
                Err(error) if error.kind() == ErrorKind::Unauthorized => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| error::disconnected("connect")))
    }

    async fn connect(settings: &Settings, server: &str) -> Result<Self> {
        let (tell, lost) = watch::channel(false);
        let options = authenticated(settings, ConnectOptions::new()).await?;
        let options = certified(settings, options)
            .name(&settings.name)
            .connection_timeout(CONNECT)
            .ping_interval(PING)
            .request_timeout(Some(REQUEST))
            .max_reconnects(1)
            .ignore_discovered_servers()
            .event_callback(move |event| {
                note(&tell, &event);
                std::future::ready(())
            });
        let client = options.connect(server).await.map_err(|error| error::connecting(server, error))?;
        // The client cannot be told not to reconnect. It has nowhere to go instead, and ends.
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
            acknowledging: tokio::spawn(acks::send(client.clone(), tasks)),
            client,
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        !*self.lost.borrow()
    }

    /// Returns when the connection is lost.
    pub(crate) async fn lost(&self) {
        // Without its sender it is lost as well.
        let _ = self.lost.clone().wait_for(|lost| *lost).await;
    }

    /// What confirms published messages.
    pub(crate) async fn confirms(&self) -> Result<&Arc<Confirms>> {
        let open = async || Confirms::open(&self.client).await.map(Arc::new);
        self.confirms.get_or_try_init(open).await
    }

    /// The server's consumers that are deleted from now on.
    pub(crate) async fn deletions(&self) -> Result<&Deletions> {
        self.deletions.get_or_try_init(|| Deletions::open(&self.client)).await
    }

    /// Returns when the server has taken what was sent before.
    pub(crate) async fn arrived(&self, operation: &'static str) -> Result<()> {
        // Any question will do: it is answered after that.
        self.ask::<serde_json::Value>(operation, &"the server", "INFO".to_owned(), &json!({})).await.map(drop)
    }

    /// Asks JetStream. Within the result is what the server answered, its refusal included.
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

impl Drop for Link {
    fn drop(&mut self) {
        self.acknowledging.abort();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.info.server_name).field("alive", &self.is_alive()).finish()
    }
}

fn note(lost: &watch::Sender<bool>, event: &Event) {
    match event {
        // A message that found no room is missing in the order of its key: start over.
        Event::Disconnected | Event::Closed | Event::SlowConsumer(_) => drop(lost.send_replace(true)),
        Event::ServerError(error) => tracing::warn!(target: telemetry::TARGET, %error, "the server complains"),
        _ => {}
    }
}

async fn authenticated(settings: &Settings, options: ConnectOptions) -> Result<ConnectOptions> {
    let unreadable = |path: &std::path::Path, error: std::io::Error| {
        Error::new(ErrorKind::Unauthorized, "connect", "cannot read the credentials").of(path.display()).because(error)
    };
    Ok(match &settings.auth {
        None => options,
        Some(Auth::Password { user, password }) => options.user_and_password(user.clone(), password.clone()),
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

fn certified(settings: &Settings, options: ConnectOptions) -> ConnectOptions {
    let options = options.require_tls(settings.tls);
    let options = match &settings.tls_ca {
        Some(authority) => options.add_root_certificates(authority.clone()),
        None => options,
    };
    match &settings.tls_client {
        Some((certificate, key)) => options.add_client_certificate(certificate.clone(), key.clone()),
        None => options,
    }
}
