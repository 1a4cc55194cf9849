//! The conformance suite on NATS JetStream.

use std::net::SocketAddr;
use std::sync::Arc;

use partitura_broker::{Broker, Result};
use partitura_conformance::{Access, Attempt, Harness, Network, Processes, Restart};
use partitura_nats::{Auth, Nats, Options};
use partitura_servers::{Endpoints, Kind, Server};

partitura_conformance::main!(Standing);

/// What no case may show.
const WRONG: &str = "not-this-one";

/// The standing server of this machine, which all cases share.
#[derive(Debug)]
struct Standing;

fn server() -> Server {
    Server::new(Kind::Nats)
}

fn endpoints() -> Endpoints {
    server().endpoints()
}

async fn connect(url: &str, options: Options) -> Result<Arc<dyn Broker>> {
    Ok(Arc::new(Nats::connect(url, options).await?))
}

#[async_trait::async_trait]
impl Harness for Standing {
    fn broker(&self) -> &str {
        "nats"
    }

    async fn connect(&self, _namespace: &str) -> Result<Arc<dyn Broker>> {
        connect(&server().url(), Options::default()).await
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
        let url = server().url();
        url.trim_start_matches("nats://").parse().expect("an address of this machine")
    }

    async fn connect(&self, _namespace: &str, proxy: SocketAddr) -> Result<Arc<dyn Broker>> {
        connect(&format!("nats://{proxy}"), Options::default()).await
    }
}

#[async_trait::async_trait]
impl Access for Standing {
    async fn connect(&self, _namespace: &str, attempt: Attempt) -> Result<Arc<dyn Broker>> {
        let login = endpoints().login.expect("the server checks passwords");
        let tls = endpoints().tls.expect("the server speaks TLS");
        let (user, mut password) = (login.user, login.password);
        if attempt == Attempt::WrongPassword {
            password = WRONG.to_owned();
        }
        let mut options = Options::default();
        options.auth = Some(Auth::Password { user, password });
        let url = match attempt {
            Attempt::RightPassword | Attempt::WrongPassword => login.url,
            Attempt::Tls | Attempt::TlsWithWrongAuthority => tls.url,
        };
        options.tls_ca = match attempt {
            Attempt::RightPassword | Attempt::WrongPassword => None,
            Attempt::Tls => Some(tls.authority),
            Attempt::TlsWithWrongAuthority => Some(tls.stranger),
        };
        connect(&url, options).await
    }

    fn secrets(&self) -> Vec<String> {
        let password = endpoints().login.map(|login| login.password);
        password.into_iter().chain([WRONG.to_owned()]).collect()
    }
}
