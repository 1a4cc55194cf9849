//! A harness over a container of any image, with all hooks that a container gives: feature `containers`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{Broker, Error, ErrorKind, Result, SubscriptionName, TopicName};
use testcontainers::bollard::query_parameters::KillContainerOptionsBuilder;
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

use crate::ports::free_address;
use crate::{Freeze, Harness, Network, Processes, Restart};

/// The environment variable by which a process of the suite finds the container's address.
const ADDRESS: &str = "PARTITURA_CONFORMANCE_CONTAINER";

/// The pause between two attempts to reach a broker that is starting.
const PAUSE: Duration = Duration::from_millis(200);

/// An adapter, and the image of its broker. An adapter's author writes this, and puts [`OnContainer`] around it.
///
/// ```no_run
/// # use std::{net::SocketAddr, sync::Arc};
/// # use partitura_broker::{Broker, Result};
/// # use partitura_conformance::containers::{Addresses, Contained, ContainerRequest, GenericImage, OnContainer};
/// # async fn open(url: &str) -> Result<Arc<dyn Broker>> { unimplemented!() }
/// struct Mine;
///
/// #[async_trait::async_trait]
/// impl Contained for Mine {
///     fn broker(&self) -> &str { "mine" }
///     fn image(&self, _: &Addresses) -> ContainerRequest<GenericImage> { GenericImage::new("mine", "1.2").into() }
///     fn port(&self) -> u16 { 4222 }
///     async fn connect(&self, address: SocketAddr) -> Result<Arc<dyn Broker>> { open(&format!("mine://{address}")).await }
/// }
///
/// partitura_conformance::main!(OnContainer::new(Mine));
/// ```
#[async_trait]
pub trait Contained: Send + Sync + 'static {
    /// As [`Harness::broker`].
    fn broker(&self) -> &str;

    /// The image, with its command, environment and mounts. The harness publishes the ports. A broker that tells its
    /// clients where to connect must tell them one of these addresses.
    fn image(&self, addresses: &Addresses) -> ContainerRequest<GenericImage>;

    /// The port on which the broker listens in the container.
    fn port(&self) -> u16;

    /// A second port in the container, for brokers that tell clients where to connect: clients that come there must be
    /// told [`Addresses::proxy`]. Without it the suite's proxy passes connections to [`port`](Self::port).
    fn proxied_port(&self) -> Option<u16> {
        None
    }

    /// Connects to the broker at this address.
    ///
    /// # Errors
    /// Those of the adapter.
    ///
    /// # Cancel safety
    /// That of the adapter's own way to connect.
    async fn connect(&self, address: SocketAddr) -> Result<Arc<dyn Broker>>;

    /// As [`Harness::places`].
    fn places(&self, _topic: &TopicName, _subscription: &SubscriptionName) -> Vec<String> {
        Vec::new()
    }

    /// As [`Harness::time_limit`]. The broker has so long to start, too.
    fn time_limit(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// As [`Harness::parallelism`].
    fn parallelism(&self) -> usize {
        6
    }
}

/// The addresses at which clients reach the broker. They stay the same when it is killed and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Addresses {
    /// Of the broker itself.
    pub clients: SocketAddr,
    /// Of the suite's proxy before it.
    pub proxy: SocketAddr,
    /// The port of this machine that leads to [`Contained::proxied_port`].
    upstream: SocketAddr,
}

/// A harness over a container, which is started when it is first needed and removed at the end.
///
/// Its hooks: processes of the suite are killed and frozen; the broker is killed (SIGKILL), started again on its data,
/// frozen and thawed; and the suite's proxy is before it.
#[derive(Debug)]
pub struct OnContainer<C> {
    adapter: C,
    addresses: Addresses,
    container: OnceCell<Arc<ContainerAsync<GenericImage>>>,
    /// Of the client of the engine: its connections outlive the case that opens them. Absent in a process that the
    /// suite started, which only connects.
    runtime: Option<Runtime>,
}

impl<C: Contained> OnContainer<C> {
    /// Makes a harness.
    ///
    /// # Panics
    /// If this machine has no free port, or no thread.
    pub fn new(adapter: C) -> Self {
        let given = std::env::var(ADDRESS).ok().and_then(|address| address.parse().ok());
        let clients = given.unwrap_or_else(free_address);
        let upstream = adapter.proxied_port().map_or(clients, |_| free_address());
        let proxy = adapter.proxied_port().map_or((Ipv4Addr::LOCALHOST, 0).into(), |_| free_address());
        let runtime = given.is_none().then(|| Builder::new_multi_thread().worker_threads(1).enable_all().build());
        let runtime = runtime.map(|runtime| runtime.expect("a thread for the engine's client"));
        Self { adapter, addresses: Addresses { clients, proxy, upstream }, container: OnceCell::new(), runtime }
    }

    /// Starts the container once, in the process that began the run.
    async fn up(&self) -> Result<()> {
        if self.runtime.is_none() {
            return Ok(());
        }
        let starting = self.container.get_or_try_init(|| async {
            let mut request = self.adapter.image(&self.addresses).with_startup_timeout(self.adapter.time_limit());
            request = request.with_mapped_port(self.addresses.clients.port(), self.adapter.port().into());
            if let Some(port) = self.adapter.proxied_port() {
                request = request.with_mapped_port(self.addresses.upstream.port(), port.into());
            }
            let container = self.engine(async { request.start().await.map_err(io::Error::other) }).await?;
            self.ready().await?;
            io::Result::Ok(Arc::new(container))
        });
        match starting.await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::new(ErrorKind::Disconnected, "start the container", error.to_string())),
        }
    }

    /// Waits until the broker takes a connection: the engine's port is open before the broker's.
    async fn ready(&self) -> io::Result<()> {
        let mut last = None;
        let connecting = async {
            loop {
                match self.adapter.connect(self.addresses.clients).await {
                    Ok(broker) => return broker.close().await,
                    Err(error) => last = Some(error),
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        match tokio::time::timeout(self.adapter.time_limit(), connecting).await {
            Ok(closed) => closed.map_err(io::Error::other),
            Err(_) => {
                let last = last.map_or("it does not answer".to_owned(), |error| error.to_string());
                let limit = self.adapter.time_limit();
                Err(io::Error::other(format!("the broker in the container was not ready within {limit:?}: {last}")))
            }
        }
    }

    fn container(&self) -> io::Result<Arc<ContainerAsync<GenericImage>>> {
        self.container.get().cloned().ok_or_else(|| io::Error::other("the container was not started"))
    }

    /// Does something with the engine, on the runtime of its client.
    async fn engine<T: Send + 'static>(
        &self,
        task: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let runtime = self.runtime.as_ref().ok_or_else(|| io::Error::other("only the first process has the engine"))?;
        runtime.spawn(task).await.map_err(io::Error::other)?
    }
}

impl<C> Drop for OnContainer<C> {
    fn drop(&mut self) {
        let (Some(runtime), container) = (self.runtime.take(), self.container.take()) else { return };
        // On a thread of its own, since this may be one that must not block.
        let removing = std::thread::spawn(move || {
            if let Some(container) = container.and_then(Arc::into_inner)
                && let Err(error) = runtime.block_on(container.rm())
            {
                eprintln!("the container was not removed: {error}");
            }
            runtime.shutdown_background();
        });
        let _panicked = removing.join();
    }
}

#[async_trait]
impl<C: Contained> Harness for OnContainer<C> {
    fn broker(&self) -> &str {
        self.adapter.broker()
    }

    async fn connect(&self, _namespace: &str) -> Result<Arc<dyn Broker>> {
        self.up().await?;
        self.adapter.connect(self.addresses.clients).await
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

impl<C: Contained> Processes for OnContainer<C> {
    fn environment(&self) -> Vec<(String, String)> {
        vec![(ADDRESS.to_owned(), self.addresses.clients.to_string())]
    }
}

#[async_trait]
impl<C: Contained> Restart for OnContainer<C> {
    async fn kill(&self) -> io::Result<()> {
        let container = self.container()?;
        self.engine(async move {
            let engine = docker_client_instance().await.map_err(io::Error::other)?;
            let signal = KillContainerOptionsBuilder::new().signal("KILL").build();
            engine.kill_container(container.id(), Some(signal)).await.map_err(io::Error::other)?;
            while container.is_running().await.map_err(io::Error::other)? {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        })
        .await
    }

    async fn start(&self) -> io::Result<()> {
        let container = self.container()?;
        self.engine(async move { container.start().await.map_err(io::Error::other) }).await?;
        self.ready().await
    }
}

#[async_trait]
impl<C: Contained> Freeze for OnContainer<C> {
    async fn freeze(&self) -> io::Result<()> {
        let container = self.container()?;
        self.engine(async move { container.pause().await.map_err(io::Error::other) }).await
    }

    async fn thaw(&self) -> io::Result<()> {
        let container = self.container()?;
        self.engine(async move {
            let engine = docker_client_instance().await.map_err(io::Error::other)?;
            let found = engine.inspect_container(container.id(), None).await.map_err(io::Error::other)?;
            if !found.state.and_then(|state| state.paused).unwrap_or_default() {
                return Ok(());
            }
            container.unpause().await.map_err(io::Error::other)
        })
        .await
    }
}

#[async_trait]
impl<C: Contained> Network for OnContainer<C> {
    fn upstream(&self) -> SocketAddr {
        self.addresses.upstream
    }

    fn listen(&self) -> SocketAddr {
        self.addresses.proxy
    }

    async fn connect(&self, _namespace: &str, proxy: SocketAddr) -> Result<Arc<dyn Broker>> {
        self.up().await?;
        self.adapter.connect(proxy).await
    }
}
