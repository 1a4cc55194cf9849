//! The conformance suite on a real Kafka.

use std::io;
use std::sync::Arc;

use partitura_broker::{Broker, Result};
use partitura_conformance::{Harness, Processes, Restart};
use partitura_kafka::{Kafka, Options};
use partitura_servers::{Kind, Server};

partitura_conformance::main!(OnKafka);

/// The standing instance, one broker.
#[derive(Debug)]
struct OnKafka;

#[async_trait::async_trait]
impl Harness for OnKafka {
    fn broker(&self) -> &str {
        "kafka"
    }

    async fn connect(&self, _namespace: &str) -> Result<Arc<dyn Broker>> {
        let url = on_a_thread(|| up()).await.map_err(|error| {
            partitura_broker::Error::new(partitura_broker::ErrorKind::Disconnected, "connect", error.to_string())
        })?;
        Ok(Arc::new(Kafka::connect(&url, Options::default()).await?))
    }

    fn processes(&self) -> Option<&dyn Processes> {
        Some(self)
    }

    fn restart(&self) -> Option<&dyn Restart> {
        Some(self)
    }
}

impl Processes for OnKafka {
    fn environment(&self) -> Vec<(String, String)> {
        // The standing instance is the same for everybody.
        Vec::new()
    }
}

#[async_trait::async_trait]
impl Restart for OnKafka {
    async fn kill(&self) -> io::Result<()> {
        on_a_thread(|| Server::new(Kind::Kafka).kill().map_err(io::Error::other)).await
    }

    async fn start(&self) -> io::Result<()> {
        on_a_thread(|| Server::new(Kind::Kafka).start().map_err(io::Error::other)).await
    }
}

/// Where the instance is, which is started if need be.
fn up() -> io::Result<String> {
    if let Ok(url) = std::env::var("PARTITURA_KAFKA_URL") {
        return Ok(url);
    }
    let server = Server::new(Kind::Kafka);
    server.up().map_err(io::Error::other)?;
    Ok(server.url())
}

async fn on_a_thread<T: Send + 'static>(task: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(task).await.map_err(io::Error::other)?
}
