use std::error::Error;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use partitura::Partitura;
use partitura_opentelemetry::Link;
use partitura_servers::{Kind, Server};

/// The broker without a server.
pub(crate) const EMBEDDED: &str = "embedded";

/// A broker, and names of the trial's own on it.
#[derive(Debug)]
pub(crate) struct Backend {
    broker: String,
    store: Option<String>,
    namespace: String,
    /// Removed when the trial ends.
    _directory: Option<tempfile::TempDir>,
}

impl Backend {
    /// Starts the servers.
    pub(crate) fn named(name: &str) -> Result<Self, Box<dyn Error>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        let namespace = format!("o{now:x}");
        if name == EMBEDDED {
            let directory = tempfile::tempdir()?;
            let broker = format!("embedded:{}", directory.path().display());
            return Ok(Self { broker, store: None, namespace, _directory: Some(directory) });
        }
        let elsewhere = [std::env::var("PARTITURA_BROKER_URL"), std::env::var("PARTITURA_STORE_URL")];
        let [broker, store] = if let [Ok(broker), Ok(store)] = elsewhere {
            [broker, store]
        } else {
            let servers = [Server::new(name.parse::<Kind>()?), Server::new(Kind::Postgres)];
            servers.iter().try_for_each(Server::up)?;
            servers.map(|server| server.url())
        };
        Ok(Self { broker, store: Some(store), namespace, _directory: None })
    }

    /// The connection of a process that links its spans.
    pub(crate) async fn connect(&self) -> Partitura {
        let few = NonZeroU32::new(2).expect("two");
        let (broker, namespace) = (self.broker.clone(), self.namespace.clone());
        let connect = partitura::connect(broker)
            .with(move |builder| builder.namespace(namespace).partitions(few).propagator(Arc::new(Link)));
        match &self.store {
            Some(store) => connect.store(store).await,
            None => connect.await,
        }
        .expect("a broker")
    }

    /// The full name of a topic of the trial.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.namespace)
    }
}
