//! The conformance suite on a real Kafka.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Broker, Error, ErrorKind, Result};
use partitura_conformance::{Access, Attempt, Harness, Network, Processes, Restart};
use partitura_kafka::{Kafka, Options};
use partitura_servers::{Endpoints, Kind, Server};

partitura_conformance::main!(OnKafka::new());

/// The standing instance, one broker.
#[derive(Debug)]
struct OnKafka {
    endpoints: Endpoints,
}

impl OnKafka {
    fn new() -> Self {
        Self { endpoints: Server::new(Kind::Kafka).endpoints() }
    }

    async fn open(&self, url: &str, options: Options) -> Result<Arc<dyn Broker>> {
        let up = on_a_thread(|| Server::new(Kind::Kafka).up());
        up.await.map_err(|error| Error::new(ErrorKind::Disconnected, "start Kafka", error.to_string()))?;
        Ok(Arc::new(Kafka::connect(url, options).await?))
    }
}

#[async_trait::async_trait]
impl Harness for OnKafka {
    fn broker(&self) -> &str {
        "kafka"
    }

    async fn connect(&self, _namespace: &str) -> Result<Arc<dyn Broker>> {
        self.open(&self.endpoints.url, Options::default()).await
    }

    fn processes(&self) -> Option<&dyn Processes> {
        Some(self)
    }

    /// A member that was killed is missed after a session, and only then does its group go on.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn parallelism(&self) -> usize {
        // One broker of half a gigabyte, which every case has create topics and groups.
        6
    }

    fn restart(&self) -> Option<&dyn Restart> {
        Some(self)
    }

    fn network(&self) -> Option<&dyn Network> {
        self.endpoints.proxied.is_some().then_some(self)
    }

    fn access(&self) -> Option<&dyn Access> {
        Some(self)
    }
}

impl Processes for OnKafka {}

#[async_trait::async_trait]
impl Restart for OnKafka {
    async fn kill(&self) -> io::Result<()> {
        on_a_thread(|| Server::new(Kind::Kafka).kill()).await
    }

    async fn start(&self) -> io::Result<()> {
        on_a_thread(|| Server::new(Kind::Kafka).start()).await
    }
}

#[async_trait::async_trait]
impl Network for OnKafka {
    fn upstream(&self) -> SocketAddr {
        let proxied = self.endpoints.proxied;
        proxied.map_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)), |proxied| proxied.upstream)
    }

    fn listen(&self) -> SocketAddr {
        let proxied = self.endpoints.proxied;
        proxied.map_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)), |proxied| proxied.advertised)
    }

    async fn connect(&self, _namespace: &str, proxy: SocketAddr) -> Result<Arc<dyn Broker>> {
        self.open(&format!("kafka://{proxy}"), Options::default()).await
    }
}

#[async_trait::async_trait]
impl Access for OnKafka {
    async fn connect(&self, _namespace: &str, attempt: Attempt) -> Result<Arc<dyn Broker>> {
        let lacking = || Error::new(ErrorKind::Unsupported, "connect", "the server has no such entrance");
        let login = self.endpoints.login.as_ref().ok_or_else(lacking)?;
        let tls = self.endpoints.tls.as_ref().ok_or_else(lacking)?;
        let (url, ca): (&str, Option<PathBuf>) = match attempt {
            Attempt::RightPassword | Attempt::WrongPassword => (&login.url, None),
            Attempt::Tls => (&tls.url, Some(tls.authority.clone())),
            Attempt::TlsWithWrongAuthority => (&tls.url, Some(tls.stranger.clone())),
        };
        let mut options = Options::default();
        options.security = ca.is_some().then(|| "sasl_ssl".to_owned());
        options.ca = ca;
        options.sasl = Some("SCRAM-SHA-256".to_owned());
        options.username = Some(login.user.clone());
        let wrong = attempt == Attempt::WrongPassword;
        options.password = Some(if wrong { WRONG.to_owned() } else { login.password.clone() });
        self.open(url, options).await
    }

    fn secrets(&self) -> Vec<String> {
        let password = self.endpoints.login.as_ref().map(|login| login.password.clone());
        password.into_iter().chain([WRONG.to_owned()]).collect()
    }
}

/// A password that nobody has.
const WRONG: &str = "not-the-password";

async fn on_a_thread<T: Send + 'static>(
    task: impl FnOnce() -> partitura_servers::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(task).await.map_err(io::Error::other)?.map_err(io::Error::other)
}
