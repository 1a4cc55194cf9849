use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use partitura_broker::{Broker, Error, ErrorKind, Result};
use partitura_engine::{BrokerStore, Builder, Partitura, Store};

/// Connects to a broker by URL, ready to run workflows: await it.
///
/// | URL | broker | feature |
/// |---|---|---|
/// | `embedded:DIR` | the embedded one, durable in one file in this directory | `embedded` (default) |
/// | `memory:` | the embedded one, in memory: everything is gone at the end | `embedded` (default) |
///
/// ```
/// # async fn example() -> Result<(), partitura::Error> {
/// let partitura = partitura::connect("memory:").await?;
/// # Ok(()) }
/// ```
pub fn connect(url: impl Into<String>) -> Connect {
    Connect { url: url.into(), store: None, configure: Box::new(|builder| builder) }
}

/// Connects to a broker by URL, for messaging alone. The URLs are those of [`connect`].
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for a URL that names no broker, or one whose feature is off; those
/// of the adapter, [`Busy`](ErrorKind::Busy) among them when another process has the file.
///
/// # Cancel safety
/// Safe.
pub async fn broker(url: &str) -> Result<Arc<dyn Broker>> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        #[cfg(feature = "embedded")]
        "embedded" if !rest.is_empty() => {
            let directory = std::path::PathBuf::from(rest);
            let open = move || partitura_embedded::Embedded::open(directory, partitura_embedded::Options::default());
            let opened = tokio::task::spawn_blocking(open).await.map_err(|error| {
                Error::new(ErrorKind::Closed, "connect", "the runtime is shutting down").because(error)
            })?;
            Ok(Arc::new(opened?))
        }
        #[cfg(feature = "embedded")]
        "memory" if rest.is_empty() => {
            Ok(Arc::new(partitura_embedded::Embedded::memory(partitura_embedded::Options::default())?))
        }
        _ => {
            let scheme: String = scheme.chars().take(32).collect();
            let known = if cfg!(feature = "embedded") { "embedded:DIR, memory:" } else { "none" };
            let message = format!(
                "no broker is known by the URL scheme {scheme:?}; this build knows: {known} (each broker is a feature of \
                 the crate partitura)"
            );
            // The rest of the URL may hold a password.
            Err(Error::new(ErrorKind::InvalidArgument, "connect", message))
        }
    }
}

/// A connection about to be made: await it.
#[must_use = "nothing is connected before this is awaited"]
pub struct Connect {
    url: String,
    store: Option<String>,
    configure: Box<dyn FnOnce(Builder) -> Builder + Send>,
}

impl Connect {
    /// Keeps the state of workflows here, instead of with the broker itself. `embedded:DIR` is a store, too.
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = Some(url.into());
        self
    }

    /// Changes settings: `.with(|settings| settings.partitions(16))`.
    pub fn with(mut self, configure: impl FnOnce(Builder) -> Builder + Send + 'static) -> Self {
        let earlier = self.configure;
        self.configure = Box::new(move |builder| configure(earlier(builder)));
        self
    }

    async fn connect(self) -> Result<Partitura> {
        let mut builder = (self.configure)(Partitura::on(broker(&self.url).await?));
        if let Some(url) = self.store {
            let store: Arc<dyn Store> = Arc::new(BrokerStore::new(broker(&url).await?)?);
            builder = builder.store(store);
        }
        builder.await
    }
}

impl IntoFuture for Connect {
    type Output = Result<Partitura>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connect())
    }
}

impl std::fmt::Debug for Connect {
    /// Without the URLs, which may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").finish_non_exhaustive()
    }
}
