//! The conformance suite on the real servers of this machine: the common part of the tests of this repository's
//! adapters.
//!
//! An adapter names the [server](Connect::server) for its tests, and how it [connects](Connect::connect). [`OnServer`]
//! has all the hooks of the suite: it starts the server when it is first needed, kills it, freezes it, puts the suite's
//! proxy before it, and tries right and wrong credentials and certificates.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use partitura_broker::{Broker, Result, SubscriptionName, TopicName};
//! # use partitura_server_harness::{Connect, Endpoint, OnServer};
//! # use partitura_servers::{Kind, Server};
//! # async fn connect(url: &str) -> Result<Arc<dyn Broker>> { unimplemented!() }
//! struct OnNats;
//!
//! #[async_trait::async_trait]
//! impl Connect for OnNats {
//!     fn server(&self) -> Server { Server::new(Kind::Nats) }
//!     async fn connect(&self, endpoint: Endpoint) -> Result<Arc<dyn Broker>> { connect(&endpoint.url).await }
//!     fn places(&self, topic: &TopicName, _: &SubscriptionName) -> Vec<String> { vec![format!("partitura.{topic}.0")] }
//! }
//!
//! partitura_conformance::main!(OnServer::new(OnNats));
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{Broker, Error, ErrorKind, Result, SubscriptionName, TopicName};
use partitura_conformance::{Access, Attempt, Freeze, Harness, Network, Operator, Processes, Restart, Right};
use partitura_servers::{Endpoints, Server};
use tokio::sync::OnceCell;

/// A password that no server knows. As a token it has a header, an empty body, and no signature.
const WRONG: &str = "eyJhbGciOiJIUzI1NiJ9.e30.bm90LXRoZS1zaWduYXR1cmUtb2YtYW55Ym9keQ";

/// An adapter, and the server on which it is tried.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    /// The server. Reports are named after it. This is called often, and the server need not run.
    fn server(&self) -> Server;

    /// Connects.
    ///
    /// # Errors
    /// Those of the adapter.
    ///
    /// # Cancel safety
    /// That of the adapter's own way to connect.
    async fn connect(&self, endpoint: Endpoint) -> Result<Arc<dyn Broker>>;

    /// As [`Harness::places`].
    fn places(&self, topic: &TopicName, subscription: &SubscriptionName) -> Vec<String>;

    /// As [`Harness::operator`].
    fn operator(&self) -> Option<&dyn Operator> {
        None
    }

    /// As [`Access::rights`].
    fn rights(&self) -> &[Right] {
        &[]
    }

    /// The credentials of a user who lacks a right, one of [`rights`](Self::rights).
    ///
    /// # Errors
    /// The reason why there is no such user.
    ///
    /// # Cancel safety
    /// Safe to call again.
    async fn user_without(&self, right: Right) -> io::Result<Credentials> {
        Err(io::Error::other(format!("every user has the right to {right:?}")))
    }

    /// As [`Harness::time_limit`]: a server that shares the machine with other programs is slow.
    fn time_limit(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// As [`Harness::parallelism`]: fewer where topics are expensive to make.
    fn parallelism(&self) -> usize {
        6
    }
}

/// The address and credentials for one connection. It has no `Debug`, which would show the credentials.
#[derive(Clone)]
#[non_exhaustive]
pub struct Endpoint {
    /// The URL. It has no credentials, unless the server accepts no client without them and none are given below.
    pub url: String,
    /// The client's credentials; `None` if the server does not ask.
    pub credentials: Option<Credentials>,
    /// The only authority to trust, for TLS; `None` for a connection without TLS.
    pub authority: Option<PathBuf>,
}

/// Credentials of a client, right or wrong.
#[derive(Clone)]
pub enum Credentials {
    /// A user and a password.
    Password {
        /// The user's name.
        user: String,
        /// The password, which is used nowhere else.
        password: String,
    },
    /// A token.
    Token(String),
}

impl Endpoint {
    fn to(url: String) -> Self {
        Self { url, credentials: None, authority: None }
    }
}

/// A harness with all hooks.
#[derive(Debug)]
pub struct OnServer<O> {
    adapter: O,
    name: String,
    up: OnceCell<()>,
}

impl<O: Connect> OnServer<O> {
    /// Makes a harness. The server is started when it is first needed.
    pub fn new(adapter: O) -> Self {
        Self { name: adapter.server().name().to_owned(), adapter, up: OnceCell::new() }
    }

    /// Starts the server once, if it is not up: the suite may kill it later.
    async fn connect_to(&self, endpoint: Endpoint) -> Result<Arc<dyn Broker>> {
        let server = self.adapter.server();
        let up = self.up.get_or_try_init(|| on_a_thread(move || server.up())).await;
        up.map_err(|error| Error::new(ErrorKind::Disconnected, "start the server", error.to_string()))?;
        self.adapter.connect(endpoint).await
    }

    fn endpoints(&self) -> Endpoints {
        self.adapter.server().endpoints()
    }
}

#[async_trait]
impl<O: Connect> Harness for OnServer<O> {
    fn broker(&self) -> &str {
        &self.name
    }

    async fn connect(&self, _namespace: &str) -> Result<Arc<dyn Broker>> {
        self.connect_to(Endpoint::to(self.endpoints().url)).await
    }

    fn processes(&self) -> Option<&dyn Processes> {
        Some(self)
    }

    fn restart(&self) -> Option<&dyn Restart> {
        Some(self)
    }

    fn freeze(&self) -> Option<&dyn Freeze> {
        Some(self)
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }

    fn access(&self) -> Option<&dyn Access> {
        Some(self)
    }

    fn operator(&self) -> Option<&dyn Operator> {
        self.adapter.operator()
    }

    fn places(&self, topic: &TopicName, subscription: &SubscriptionName) -> Vec<String> {
        self.adapter.places(topic, subscription)
    }

    fn time_limit(&self) -> Duration {
        self.adapter.time_limit()
    }

    fn parallelism(&self) -> usize {
        self.adapter.parallelism()
    }
}

impl<O: Connect> Processes for OnServer<O> {}

#[async_trait]
impl<O: Connect> Restart for OnServer<O> {
    async fn kill(&self) -> io::Result<()> {
        let server = self.adapter.server();
        on_a_thread(move || server.kill()).await
    }

    async fn start(&self) -> io::Result<()> {
        let server = self.adapter.server();
        on_a_thread(move || server.start()).await
    }
}

#[async_trait]
impl<O: Connect> Freeze for OnServer<O> {
    async fn freeze(&self) -> io::Result<()> {
        let server = self.adapter.server();
        on_a_thread(move || server.freeze()).await
    }

    async fn thaw(&self) -> io::Result<()> {
        let server = self.adapter.server();
        on_a_thread(move || server.thaw()).await
    }
}

#[async_trait]
impl<O: Connect> Network for OnServer<O> {
    fn upstream(&self) -> SocketAddr {
        let Endpoints { url, proxied, .. } = self.endpoints();
        match proxied {
            Some(proxied) => proxied.upstream,
            None => address(&url).parse().unwrap_or_else(|_| panic!("{} is no address of this machine", address(&url))),
        }
    }

    fn listen(&self) -> SocketAddr {
        self.endpoints().proxied.map_or((Ipv4Addr::LOCALHOST, 0).into(), |proxied| proxied.advertised)
    }

    async fn connect(&self, _namespace: &str, proxy: SocketAddr) -> Result<Arc<dyn Broker>> {
        let url = self.endpoints().url;
        self.connect_to(Endpoint::to(url.replacen(address(&url), &proxy.to_string(), 1))).await
    }
}

#[async_trait]
impl<O: Connect> Access for OnServer<O> {
    async fn connect(&self, _namespace: &str, attempt: Attempt) -> Result<Arc<dyn Broker>> {
        let endpoints = self.endpoints();
        let is_wrong = attempt == Attempt::WrongPassword;
        let given = |right: &str| if is_wrong { WRONG.to_owned() } else { right.to_owned() };
        let (plain, credentials) = match (&endpoints.login, &endpoints.token) {
            (Some(login), _) => {
                let (user, password) = (login.user.clone(), given(&login.password));
                (login.url.clone(), Some(Credentials::Password { user, password }))
            }
            (None, Some(token)) => (endpoints.url.clone(), Some(Credentials::Token(given(token)))),
            (None, None) => return Err(lacking("credentials")),
        };
        let tls = endpoints.tls.ok_or_else(|| lacking("TLS"))?;
        let (url, authority) = match attempt {
            Attempt::RightPassword | Attempt::WrongPassword => (plain, None),
            Attempt::Tls => (tls.url, Some(tls.authority)),
            Attempt::TlsWithWrongAuthority => (tls.url, Some(tls.stranger)),
            Attempt::Without(right) => {
                let user = self.adapter.user_without(right).await;
                let user = user.map_err(|error| Error::new(ErrorKind::Unsupported, "connect", error.to_string()))?;
                return self.connect_to(Endpoint { url: plain, credentials: Some(user), authority: None }).await;
            }
        };
        self.connect_to(Endpoint { url, credentials, authority }).await
    }

    fn rights(&self) -> &[Right] {
        self.adapter.rights()
    }

    fn secrets(&self) -> Vec<String> {
        let Endpoints { login, token, .. } = self.endpoints();
        let right = login.map(|login| login.password).or(token);
        right.into_iter().chain([WRONG.to_owned()]).collect()
    }
}

fn lacking(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "connect", format!("the server has no endpoint with {what}"))
}

/// Host and port of a URL.
fn address(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['/', '?']).next().unwrap_or_default();
    rest.rsplit_once('@').map_or(rest, |(_, address)| address)
}

async fn on_a_thread(task: impl FnOnce() -> partitura_servers::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(task).await?.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_url_is_found_beside_credentials_path_and_parameters() {
        for url in ["a://h:1", "a://h:1/", "a://u:p@h:1/db?x=y", "a://h:1?admin=http://h:2"] {
            assert_eq!(address(url), "h:1", "{url}");
        }
    }
}
