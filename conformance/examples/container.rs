//! The conformance suite on mine, in a container: `cargo test --test conformance`.

use std::net::SocketAddr;
use std::sync::Arc;

use partitura_broker::{Broker, Error, ErrorKind, Result};
use partitura_conformance::containers::{Addresses, Contained, ContainerRequest, GenericImage, OnContainer};

/// The broker's image, and the way to connect. The hooks come from the container.
struct Mine;

#[async_trait::async_trait]
impl Contained for Mine {
    fn broker(&self) -> &str {
        "mine"
    }

    fn image(&self, _: &Addresses) -> ContainerRequest<GenericImage> {
        GenericImage::new("mine", "latest").into()
    }

    fn port(&self) -> u16 {
        4222
    }

    async fn connect(&self, address: SocketAddr) -> Result<Arc<dyn Broker>> {
        let message = format!("write `connect` in this file: a connection of your adapter to {address}");
        Err(Error::new(ErrorKind::Unsupported, "connect", message))
    }
}

partitura_conformance::main!(OnContainer::new(Mine));
