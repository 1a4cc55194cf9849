//! The conformance suite on mine: `cargo test --test conformance`.

use std::net::SocketAddr;
use std::sync::Arc;

use partitura_broker::{Broker, Error, ErrorKind, Result};
use partitura_conformance::{Harness, Network, Processes};

/// The address of the broker, unless the environment has another.
const ADDRESS: &str = "127.0.0.1:4222";

/// The way in which the suite reaches the broker.
struct Mine;

impl Mine {
    /// Connects to the broker at this address. The suite gives the address of its proxy, too.
    async fn open(&self, address: SocketAddr) -> Result<Arc<dyn Broker>> {
        let message = format!("write `open` in this file: a connection of your adapter to {address}");
        Err(Error::new(ErrorKind::Unsupported, "connect", message))
    }

    fn address(&self) -> SocketAddr {
        let given = std::env::var("BROKER_ADDRESS").unwrap_or(ADDRESS.to_owned());
        given.parse().expect("BROKER_ADDRESS is IP:PORT")
    }
}

#[async_trait::async_trait]
impl Harness for Mine {
    fn broker(&self) -> &str {
        "mine"
    }

    async fn connect(&self, _namespace: &str) -> Result<Arc<dyn Broker>> {
        self.open(self.address()).await
    }

    // Without a hook its cases are *not verified*. There are more: `restart`, `freeze`, `access`.

    fn processes(&self) -> Option<&dyn Processes> {
        Some(self)
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }
}

/// The processes find the broker by the address alone.
impl Processes for Mine {}

#[async_trait::async_trait]
impl Network for Mine {
    fn upstream(&self) -> SocketAddr {
        self.address()
    }

    async fn connect(&self, _namespace: &str, proxy: SocketAddr) -> Result<Arc<dyn Broker>> {
        self.open(proxy).await
    }
}

partitura_conformance::main!(Mine);
