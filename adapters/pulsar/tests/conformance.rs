//! The conformance suite on Pulsar, on the standing instance of `cargo xtask brokers`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use partitura_broker::{Broker, Error, ErrorKind, Result};
use partitura_conformance::{Access, Attempt, Harness, Network, Processes, Restart};
use partitura_pulsar::{Options, Pulsar};
use partitura_servers::{Kind, Server};

partitura_conformance::main!(Standing::default());

/// The instance that all processes on this machine share.
#[derive(Default)]
struct Standing {
    up: OnceLock<std::result::Result<(), String>>,
}

/// Worth nothing, and not known to the broker: the header of a token, an empty body, and no signature.
const WRONG_TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.e30.bm90LXRoZS1zaWduYXR1cmUtb2YtYW55Ym9keQ";

impl Standing {
    fn server() -> Server {
        Server::new(Kind::Pulsar)
    }

    /// Starts it once for all cases.
    async fn up(&self) -> Result<()> {
        let up = tokio::task::block_in_place(|| {
            self.up.get_or_init(|| Self::server().up().map_err(|error| error.to_string()))
        });
        up.clone().map_err(|message| Error::new(ErrorKind::Disconnected, "start the broker", message))
    }

    async fn open(url: String, options: Options) -> Result<Arc<dyn Broker>> {
        Ok(Arc::new(Pulsar::connect(&url, options).await?))
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.admin = Standing::server().endpoints().admin;
    options.credentials = None;
    options
}

fn with_token(token: &str) -> Options {
    let mut options = options();
    options.credentials = Some(partitura_pulsar::Credentials::Token(token.to_owned()));
    options
}

#[async_trait::async_trait]
impl Harness for Standing {
    fn broker(&self) -> &str {
        "pulsar"
    }

    async fn connect(&self, _namespace: &str) -> Result<Arc<dyn Broker>> {
        self.up().await?;
        Self::open(Self::server().url(), options()).await
    }

    fn processes(&self) -> Option<&dyn Processes> {
        Some(self)
    }

    fn restart(&self) -> Option<&dyn Restart> {
        Some(self)
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }

    fn access(&self) -> Option<&dyn Access> {
        Some(self)
    }

    /// It shares the machine with much else, and a partition takes it some time to load.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Topics and subscriptions are dear to make.
    fn parallelism(&self) -> usize {
        4
    }
}

impl Processes for Standing {}

#[async_trait::async_trait]
impl Restart for Standing {
    async fn kill(&self) -> std::io::Result<()> {
        run(|| Self::server().kill()).await
    }

    async fn start(&self) -> std::io::Result<()> {
        run(|| Self::server().start()).await
    }
}

async fn run(
    work: impl FnOnce() -> std::result::Result<(), partitura_servers::Error> + Send + 'static,
) -> std::io::Result<()> {
    tokio::task::spawn_blocking(work).await?.map_err(std::io::Error::other)
}

#[async_trait::async_trait]
impl Network for Standing {
    fn upstream(&self) -> SocketAddr {
        Self::server().endpoints().proxied.expect("Pulsar has a listener for a proxy").upstream
    }

    fn listen(&self) -> SocketAddr {
        Self::server().endpoints().proxied.expect("Pulsar has a listener for a proxy").advertised
    }

    async fn connect(&self, _namespace: &str, proxy: SocketAddr) -> Result<Arc<dyn Broker>> {
        Self::open(format!("pulsar://{proxy}"), options()).await
    }
}

#[async_trait::async_trait]
impl Access for Standing {
    async fn connect(&self, _namespace: &str, attempt: Attempt) -> Result<Arc<dyn Broker>> {
        self.up().await?;
        let (endpoints, mut tls) = (Self::server().endpoints(), options());
        let offered = endpoints.tls.expect("Pulsar has a listener for TLS");
        match attempt {
            Attempt::RightPassword => {
                Self::open(endpoints.url, with_token(&endpoints.token.expect("Pulsar has a token"))).await
            }
            Attempt::WrongPassword => Self::open(endpoints.url, with_token(WRONG_TOKEN)).await,
            Attempt::Tls => {
                tls.ca_file = Some(offered.authority);
                Self::open(offered.url, tls).await
            }
            Attempt::TlsWithWrongAuthority => {
                tls.ca_file = Some(offered.stranger);
                Self::open(offered.url, tls).await
            }
        }
    }

    fn secrets(&self) -> Vec<String> {
        [Self::server().endpoints().token, Some(WRONG_TOKEN.to_owned())].into_iter().flatten().collect()
    }
}
