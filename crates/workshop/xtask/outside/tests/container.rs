//! A harness over a container: the suite kills, freezes and restarts it, and its proxy is before it.

use std::net::SocketAddr;
use std::sync::Arc;

use partitura_broker::{Broker, Result};
use partitura_conformance::containers::{Addresses, Contained, ContainerRequest, GenericImage, ImageExt, OnContainer};
use partitura_nats::{Nats, Options};

struct InContainer;

#[async_trait::async_trait]
impl Contained for InContainer {
    fn broker(&self) -> &str {
        "outside"
    }

    fn image(&self, _: &Addresses) -> ContainerRequest<GenericImage> {
        let image = std::env::var("OUTSIDE_IMAGE").unwrap_or("nats:2.12".to_owned());
        let (name, tag) = image.split_once(':').unwrap_or((&image, "latest"));
        GenericImage::new(name, tag).with_cmd(["--jetstream", "--store_dir", "/data"])
    }

    fn port(&self) -> u16 {
        4222
    }

    async fn connect(&self, address: SocketAddr) -> Result<Arc<dyn Broker>> {
        Ok(Arc::new(Nats::connect(&format!("nats://{address}"), Options::default()).await?))
    }
}

partitura_conformance::main!(OnContainer::new(InContainer));
