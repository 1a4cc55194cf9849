use std::error::Error;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libtest_mimic::Failed;
use partitura::contract::Broker;
use partitura::{BrokerStore, Builder, Partitura, Store, millis, seconds};
use partitura_servers::{Kind, Server};

/// The broker without a server.
pub(crate) const IN_MEMORY: &str = "embedded";

/// Nothing here takes as long; a trial that does hangs.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A broker to try, and where the state is kept beside it.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    name: String,
    servers: Option<Urls>,
}

#[derive(Debug, Clone)]
struct Urls {
    broker: String,
    store: String,
}

impl Backend {
    /// Starts the servers.
    pub(crate) fn named(name: &str) -> Result<Self, Box<dyn Error>> {
        let elsewhere = [std::env::var("PARTITURA_BROKER_URL"), std::env::var("PARTITURA_STORE_URL")];
        let servers = if name == IN_MEMORY {
            None
        } else if let [Ok(broker), Ok(store)] = elsewhere {
            Some(Urls { broker, store })
        } else {
            let (broker, store) = (Server::new(name.parse::<Kind>()?), Server::new(Kind::Postgres));
            broker.up()?;
            store.up()?;
            Some(Urls { broker: broker.url(), store: store.url() })
        };
        Ok(Self { name: name.to_owned(), servers })
    }

    /// Whether its server can be told to take deliveries away that are held for long.
    pub(crate) fn can_be_impatient(&self) -> bool {
        self.impatient_server().is_some()
    }

    /// A server of its own that lets a delivery be held for a minute.
    fn impatient_server(&self) -> Option<Server> {
        Server::private(self.name.parse().ok()?, "impatient", 26_700).with_hold(seconds(60))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A trial, in a runtime of its own.
    pub(crate) fn run<F: Future<Output = ()>>(&self, test: fn(Stage) -> F) -> Result<(), Failed> {
        self.run_within(TIME_LIMIT, test)
    }

    /// A trial that takes minutes, on a server that lets a delivery be held for one.
    pub(crate) fn run_impatiently<F: Future<Output = ()>>(&self, test: fn(Stage) -> F) -> Result<(), Failed> {
        let server = self.impatient_server().ok_or("the server lets a delivery be held for ever")?;
        server.up()?;
        let store = Server::new(Kind::Postgres);
        store.up()?;
        let servers = Some(Urls { broker: server.url(), store: store.url() });
        Self { servers, ..self.clone() }.run_within(5 * TIME_LIMIT, test)
    }

    fn run_within<F: Future<Output = ()>>(&self, limit: Duration, test: fn(Stage) -> F) -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let stage = Stage { servers: self.servers.clone() };
        let ended = runtime.block_on(async { tokio::time::timeout(limit, test(stage)).await });
        runtime.shutdown_background();
        Ok(ended?)
    }
}

/// Where one trial takes place.
#[derive(Debug)]
pub(crate) struct Stage {
    servers: Option<Urls>,
}

fn fresh_namespace() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    format!("t{now:x}x{:x}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

impl Stage {
    /// An application in one process. Each has names of its own.
    pub(crate) async fn application(&self) -> Partitura {
        let [process] = self.processes(|settings| settings).await;
        process
    }

    /// An application in one process, and its namespace.
    pub(crate) async fn named_application(&self) -> (Partitura, String) {
        let namespace = fresh_namespace();
        let [process] = self.in_namespace(&namespace, |settings| settings).await;
        (process, namespace)
    }

    /// An application in several processes: each with connections of its own, where there is a server to connect to.
    pub(crate) async fn processes<const N: usize>(&self, configure: fn(Builder) -> Builder) -> [Partitura; N] {
        self.in_namespace(&fresh_namespace(), configure).await
    }

    /// As [`processes`](Self::processes), with settings that are not the same in each trial.
    pub(crate) async fn processes_with<const N: usize>(
        &self,
        configure: impl FnOnce(Builder) -> Builder + Clone + Send + 'static,
    ) -> [Partitura; N] {
        self.in_namespace(&fresh_namespace(), configure).await
    }

    /// Two applications, in namespaces of their own on one broker and one store.
    pub(crate) async fn neighbours(&self) -> [Partitura; 2] {
        let memory = self.memory().await;
        let [one] = self.on(memory.clone(), &fresh_namespace(), |settings| settings).await;
        let [other] = self.on(memory, &fresh_namespace(), |settings| settings).await;
        [one, other]
    }

    /// An application in processes of two kinds, with different settings.
    pub(crate) async fn in_two_ways<const N: usize, const M: usize>(
        &self,
        one: impl FnOnce(Builder) -> Builder + Clone + Send + 'static,
        other: impl FnOnce(Builder) -> Builder + Clone + Send + 'static,
    ) -> ([Partitura; N], [Partitura; M]) {
        let (memory, namespace) = (self.memory().await, fresh_namespace());
        (self.on(memory.clone(), &namespace, one).await, self.on(memory, &namespace, other).await)
    }

    async fn in_namespace<const N: usize>(
        &self,
        namespace: &str,
        configure: impl FnOnce(Builder) -> Builder + Clone + Send + 'static,
    ) -> [Partitura; N] {
        self.on(self.memory().await, namespace, configure).await
    }

    /// The broker in memory, unless there is a server.
    async fn memory(&self) -> Option<Arc<dyn Broker>> {
        match self.servers {
            Some(_) => None,
            None => Some(partitura::broker("memory:").await.expect("a broker in memory")),
        }
    }

    async fn on<const N: usize>(
        &self,
        memory: Option<Arc<dyn Broker>>,
        namespace: &str,
        configure: impl FnOnce(Builder) -> Builder + Clone + Send + 'static,
    ) -> [Partitura; N] {
        let namespace = namespace.to_owned();
        let settings = move |builder: Builder| {
            let few = NonZeroU32::new(4).expect("four");
            let builder = builder.namespace(namespace.clone()).partitions(few).drain_within(millis(100));
            configure(builder.ask_again(seconds(5)))
        };
        let mut processes = Vec::new();
        for _ in 0..N {
            processes.push(self.connect(memory.clone(), settings.clone()).await);
        }
        processes.try_into().expect("as many as asked for")
    }

    /// The store that applications of this stage use.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        match &self.servers {
            Some(Urls { store, .. }) => partitura::store(store).await.expect("a store"),
            None => {
                let memory = partitura::broker("memory:").await.expect("a broker in memory");
                Arc::new(BrokerStore::new(memory).expect("it has transactions"))
            }
        }
    }

    /// The URL of the server that keeps the state, unless it is kept in memory.
    pub(crate) fn store_url(&self) -> Option<&str> {
        self.servers.as_ref().map(|urls| &*urls.store)
    }

    async fn connect(
        &self,
        memory: Option<Arc<dyn Broker>>,
        settings: impl FnOnce(Builder) -> Builder + Send + 'static,
    ) -> Partitura {
        let connected = match (&self.servers, memory) {
            (Some(Urls { broker, store }), _) => partitura::connect(broker).store(store).with(settings).await,
            (None, Some(broker)) => settings(Partitura::on(broker)).await,
            (None, None) => unreachable!("without servers there is a broker in memory"),
        };
        connected.expect("a broker")
    }
}

/// As few instances in memory as there can be.
pub(crate) fn forgetful(settings: Builder) -> Builder {
    settings.cache(NonZeroUsize::MIN)
}
