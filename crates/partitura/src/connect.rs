use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Broker, Error, ErrorKind, Result, Topology};
use partitura_engine::{BrokerStore, Builder, Partitura, Store, retry_for};
use tokio::time::Instant;

/// Connects to a broker by URL, ready to run workflows: await it.
///
/// | URL | broker | feature |
/// |---|---|---|
/// | `embedded:DIR` | the embedded one, durable in one file in this directory, for one process at a time | `embedded` (default) |
/// | `memory:` | the embedded one, in memory: everything is gone when the process ends | `embedded` (default) |
/// | `amqp10://HOST:PORT?profile=artemis`, `amqps10://…` | Apache Artemis; with `profile=solace` Solace, with `profile=servicebus` Azure Service Bus | `amqp` |
/// | `kafka://HOST:PORT,…` | Apache Kafka | `kafka` |
/// | `nats://HOST:PORT,…`, `tls://…` | NATS JetStream | `nats` |
/// | `pulsar://HOST:PORT`, `pulsar+ssl://…` | Apache Pulsar | `pulsar` |
/// | `amqp://HOST:PORT/VHOST`, `amqps://…` | RabbitMQ | `rabbitmq` |
///
/// Credentials and TLS are part of the URL, or come from the environment; each adapter's `Options` say how. All but the
/// embedded one need a [`store`](Connect::store).
///
/// ```
/// # async fn example() -> Result<(), partitura::Error> {
/// let partitura = partitura::connect("memory:").await?;
/// # Ok(()) }
/// ```
pub fn connect(url: impl Into<String>) -> Connect {
    Connect { url: url.into(), store: None, wait: Duration::ZERO, configure: Box::new(|builder| builder) }
}

/// The schemes of brokers' URLs, the feature that each needs, and whether it is on.
const BROKERS: &[(&[&str], &str, bool)] = &[
    (&["embedded", "memory"], "embedded", cfg!(feature = "embedded")),
    (&["amqp10", "amqps10"], "amqp", cfg!(feature = "amqp")),
    (&["kafka"], "kafka", cfg!(feature = "kafka")),
    (&["nats", "tls"], "nats", cfg!(feature = "nats")),
    (&["pulsar", "pulsar+ssl"], "pulsar", cfg!(feature = "pulsar")),
    (&["amqp", "amqps"], "rabbitmq", cfg!(feature = "rabbitmq")),
];

/// Connects to a broker by URL, for messaging alone. The URLs are those of [`connect`].
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for a URL that names no broker, or one whose feature is off; those
/// of the adapter, [`Busy`](ErrorKind::Busy) among them when another process has the file.
///
/// # Cancel safety
/// Safe.
pub async fn broker(url: &str) -> Result<Arc<dyn Broker>> {
    let (scheme, _rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        #[cfg(feature = "embedded")]
        "embedded" if !_rest.is_empty() => {
            let directory = std::path::PathBuf::from(_rest);
            let open = move || partitura_embedded::Embedded::open(directory, partitura_embedded::Options::default());
            let opened = tokio::task::spawn_blocking(open).await.map_err(|error| {
                Error::new(ErrorKind::Closed, "connect", "the runtime is shutting down").because(error)
            })?;
            Ok(Arc::new(opened?))
        }
        #[cfg(feature = "embedded")]
        "memory" if _rest.is_empty() => {
            Ok(Arc::new(partitura_embedded::Embedded::memory(partitura_embedded::Options::default())?))
        }
        #[cfg(feature = "amqp")]
        "amqp10" | "amqps10" => {
            Ok(Arc::new(partitura_amqp::Amqp::connect(url, partitura_amqp::Options::default()).await?))
        }
        #[cfg(feature = "kafka")]
        "kafka" => Ok(Arc::new(partitura_kafka::Kafka::connect(url, partitura_kafka::Options::default()).await?)),
        #[cfg(feature = "nats")]
        "nats" | "tls" => Ok(Arc::new(partitura_nats::Nats::connect(url, partitura_nats::Options::default()).await?)),
        #[cfg(feature = "pulsar")]
        "pulsar" | "pulsar+ssl" => {
            Ok(Arc::new(partitura_pulsar::Pulsar::connect(url, partitura_pulsar::Options::default()).await?))
        }
        #[cfg(feature = "rabbitmq")]
        "amqp" | "amqps" => {
            Ok(Arc::new(partitura_rabbitmq::Rabbitmq::connect(url, partitura_rabbitmq::Options::default()).await?))
        }
        _ => Err(unknown("connect", scheme, BROKERS)),
    }
}

/// Opens a store by URL, for [`Builder::store`]: `postgres://…` (feature `postgres`), or a broker that has
/// transactions, as `embedded:DIR`. [`Connect::store`] does both.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for a URL that names no store, or one whose feature is off; those of
/// the store.
///
/// # Cancel safety
/// Safe.
pub async fn store(url: &str) -> Result<Arc<dyn Store>> {
    match url.split_once(':') {
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => {
            let options = partitura_store_postgres::Options::default();
            Ok(Arc::new(partitura_store_postgres::PostgresStore::connect(url, options).await?))
        }
        #[cfg(not(feature = "postgres"))]
        Some((scheme @ ("postgres" | "postgresql"), _)) => {
            Err(unknown("open a store", scheme, &[(&["postgres"], "postgres", false)]))
        }
        _ => Ok(Arc::new(BrokerStore::new(broker(url).await?)?)),
    }
}

/// Returns the commands by which an operator makes topics and subscriptions, where the broker's clients cannot make
/// them: of `solace` (feature `amqp`). The command `partitura topics --for` prints them.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for any other broker: declaring makes its topics.
#[cfg_attr(not(feature = "amqp"), expect(unused_variables, reason = "no adapter of this build needs them"))]
pub fn operator_commands(broker: &str, topology: &Topology) -> Result<String> {
    match broker {
        #[cfg(feature = "amqp")]
        "solace" => Ok(partitura_amqp::solace_commands(topology)),
        _ => {
            let broker: String = broker.chars().take(32).collect();
            let message =
                format!("there are no commands for {broker:?}; there are those for solace, with feature `amqp`");
            Err(Error::new(ErrorKind::InvalidArgument, "write commands", message))
        }
    }
}

/// A URL that cannot be used in this build. Its rest is not repeated: it may hold a password.
fn unknown(operation: &'static str, scheme: &str, known: &[(&[&str], &str, bool)]) -> Error {
    let message = match known.iter().find(|(schemes, ..)| schemes.contains(&scheme)) {
        Some((_, feature, false)) => {
            format!("{scheme}: needs the feature `{feature}` of the crate partitura, which is off in this build")
        }
        Some((schemes, ..)) => {
            let example = match *schemes {
                ["embedded", ..] => "`embedded:./data`, or `memory:`".to_owned(),
                schemes => format!("`{}://HOST:PORT`", schemes.first().unwrap_or(&scheme)),
            };
            format!("a URL that begins with {scheme} is not complete; write {example}")
        }
        None => {
            let scheme: String = scheme.chars().take(32).collect();
            let on =
                known.iter().filter(|(.., on)| *on).flat_map(|(schemes, ..)| *schemes).copied().collect::<Vec<_>>();
            let off = known.iter().filter(|(.., on)| !on).map(|(_, feature, _)| *feature).collect::<Vec<_>>();
            format!("no broker is known by the URL scheme {scheme:?}; known are {on:?}, and with more features {off:?}")
        }
    };
    Error::new(ErrorKind::InvalidArgument, operation, message)
}

/// A connection about to be made: await it.
#[must_use = "nothing is connected before this is awaited"]
pub struct Connect {
    url: String,
    store: Option<String>,
    wait: Duration,
    configure: Box<dyn FnOnce(Builder) -> Builder + Send>,
}

impl Connect {
    /// Keeps the state of workflows here, instead of with the broker itself: `postgres://…` (feature `postgres`), or
    /// `embedded:DIR` for a single process.
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = Some(url.into());
        self
    }

    /// Waits up to this long for a broker and a store that are not there yet: a program is often started together with
    /// them. Unless set, one that is not there is an error at once.
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = limit;
        self
    }

    /// Changes settings: `.with(|settings| settings.partitions(16))`.
    pub fn with(mut self, configure: impl FnOnce(Builder) -> Builder + Send + 'static) -> Self {
        let earlier = self.configure;
        self.configure = Box::new(move |builder| configure(earlier(builder)));
        self
    }

    async fn connect(self) -> Result<Partitura> {
        let Self { url, store: state, wait, configure } = self;
        let began = Instant::now();
        let left = || wait.saturating_sub(began.elapsed());
        let broker = retry_for(left(), "connect to the broker", || broker(&url)).await?;
        let mut builder = configure(Partitura::on(broker).wait(left()));
        if let Some(url) = state {
            builder = builder.store(retry_for(left(), "open the store", || store(&url)).await?);
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

#[cfg(test)]
mod tests {
    use partitura_broker::{Ordering, SubscriptionName, TopicName};

    use super::*;

    #[test]
    fn an_operator_gets_commands_where_clients_can_make_nothing() {
        let orders = TopicName::new("orders").expect("a name");
        let billing = SubscriptionName::new("billing").expect("a name");
        let topology =
            Topology::new().queue(orders.clone(), Ordering::ByKey { partitions: 2 }).subscription(billing, [orders]);
        let commands = operator_commands("solace", &topology);
        assert_eq!(commands.is_ok_and(|script| script.contains("partitura/orders/billing/1")), cfg!(feature = "amqp"));
        let refused = operator_commands("memory", &topology).expect_err("it makes its topics");
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
}
