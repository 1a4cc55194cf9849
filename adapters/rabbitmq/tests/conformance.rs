//! The conformance suite on RabbitMQ.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Broker, Result};
use partitura_conformance::{Access, Attempt, Harness, Network, Processes, Restart};
use partitura_rabbitmq::{Options, Rabbitmq};
use partitura_servers::{Kind, Login, Server, Tls};

partitura_conformance::main!(Standing);

/// What no case may show.
const WRONG: &str = "not-this-one";

/// The standing server of this machine, which all cases share.
#[derive(Debug)]
struct Standing;

fn server() -> Server {
    Server::new(Kind::Rabbitmq)
}

fn login() -> Login {
    server().endpoints().login.expect("the server checks passwords")
}

fn tls() -> Tls {
    server().endpoints().tls.expect("the server speaks TLS")
}

fn options() -> Options {
    let mut options = Options::default();
    // The server's own bound is 30 min, and nothing is held for half of that in a test: the case asks for less.
    options.hold = Duration::from_secs(20);
    options
}

async fn connect(url: &str, options: Options) -> Result<Arc<dyn Broker>> {
    Ok(Arc::new(Rabbitmq::connect(url, options).await?))
}

#[async_trait::async_trait]
impl Harness for Standing {
    fn broker(&self) -> &str {
        "rabbitmq"
    }

    async fn connect(&self, _namespace: &str) -> Result<Arc<dyn Broker>> {
        connect(&server().url(), options()).await
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Queues that keep a log of their own are dear to make.
    fn parallelism(&self) -> usize {
        6
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
}

impl Processes for Standing {}

#[async_trait::async_trait]
impl Restart for Standing {
    async fn kill(&self) -> std::io::Result<()> {
        tokio::task::spawn_blocking(|| server().kill()).await?.map_err(std::io::Error::other)
    }

    async fn start(&self) -> std::io::Result<()> {
        tokio::task::spawn_blocking(|| server().start()).await?.map_err(std::io::Error::other)
    }
}

#[async_trait::async_trait]
impl Network for Standing {
    fn upstream(&self) -> SocketAddr {
        address(&server().url()).parse().expect("an address of this machine")
    }

    async fn connect(&self, _namespace: &str, proxy: SocketAddr) -> Result<Arc<dyn Broker>> {
        let url = server().url();
        connect(&url.replace(address(&url), &proxy.to_string()), options()).await
    }
}

#[async_trait::async_trait]
impl Access for Standing {
    async fn connect(&self, _namespace: &str, attempt: Attempt) -> Result<Arc<dyn Broker>> {
        let (login, tls, mut options) = (login(), tls(), options());
        options.username = Some(login.user);
        options.password = Some(if attempt == Attempt::WrongPassword { WRONG.into() } else { login.password });
        let url = match attempt {
            Attempt::RightPassword | Attempt::WrongPassword => login.url,
            Attempt::Tls | Attempt::TlsWithWrongAuthority => tls.url,
        };
        options.ca = match attempt {
            Attempt::RightPassword | Attempt::WrongPassword => None,
            Attempt::Tls => Some(tls.authority),
            Attempt::TlsWithWrongAuthority => Some(tls.stranger),
        };
        connect(&url, options).await
    }

    fn secrets(&self) -> Vec<String> {
        vec![login().password, WRONG.into()]
    }
}

/// Host and port of a URL.
fn address(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default()
}
