use std::convert::Infallible;
use std::future::{Future, IntoFuture};
use std::num::{NonZeroU32, NonZeroUsize};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use partitura_broker::{Broker, Clock, Error, ErrorKind, ProducerOptions, Result};
use partitura_codec::PayloadCodec;
use partitura_lanes::Trials;

use crate::client::{Client, Connection, Hopeless};
use crate::core::{Core, ReplayValues, Settings};
use crate::health::Workers;
use crate::layer::{Layer, Layers};
use crate::messaging::directory::Directory;
use crate::messaging::mailbox::Mailbox;
use crate::partitura::Partitura;
use crate::retry_for::retry_for;
use crate::storage::pauses::Pauses;
use crate::storage::store::Store;
use crate::storage::turn_store::TurnStore;
use crate::task::rates::Rates;
use crate::telemetry::propagator::{Propagation, Propagator};
use crate::timekeeper::{Reference, Timekeeper};
use crate::wire::Payloads;
use crate::wire::ids::{Ids, SystemIds};
use crate::wire::namespace::Namespace;
use crate::workflow::history_limits::HistoryLimits;
use crate::workflow::retention::Retention;

/// Settings of a [`Partitura`]: await it.
#[derive(Debug)]
#[must_use = "nothing is connected before this is awaited"]
pub struct Builder {
    broker: Arc<dyn Broker>,
    store: Option<Arc<dyn Store>>,
    clock: Option<Arc<dyn Clock>>,
    ids: Arc<dyn Ids>,
    namespace: Namespace,
    partitions: NonZeroU32,
    settings: Settings,
    payloads: Payloads,
    propagation: Propagation,
    layers: Layers,
    hopeless: Hopeless,
    refused: Option<&'static str>,
}

impl Partitura {
    /// On this broker, with its own transactions for the state unless a [store](Builder::store) is given.
    pub fn on(broker: Arc<dyn Broker>) -> Builder {
        Builder {
            broker,
            store: None,
            clock: None,
            ids: Arc::new(SystemIds),
            namespace: Namespace::default(),
            partitions: NonZeroU32::new(8).unwrap_or(NonZeroU32::MIN),
            propagation: Propagation::default(),
            settings: Settings {
                cache: NonZeroUsize::new(10_000).unwrap_or(NonZeroUsize::MIN),
                events: true,
                drain_within: Duration::from_secs(10),
                replay_values: ReplayValues::default(),
                history_limits: HistoryLimits::default(),
                retention: Retention::default(),
                crashes: 5,
                trials: Trials::of_this_process(),
                ask_again: Duration::from_secs(600),
                wait: Duration::ZERO,
            },
            payloads: Payloads::default(),
            layers: Layers::default(),
            hopeless: Hopeless::default(),
            refused: None,
        }
    }
}

impl Builder {
    /// Keeps the state of workflows here, instead of in the broker's own transactions.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Takes the time from here, as it is. Otherwise it is that of [the broker's connection](Broker::clock), corrected
    /// by the clock of the store where that can be read: see [`clock_offset`](Partitura::clock_offset).
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        // It may be one of several processes that a test plays.
        self.settings.trials = Trials::default();
        self
    }

    /// Takes new ids, and with them all that is left to chance, from here.
    pub fn ids(mut self, ids: Arc<dyn Ids>) -> Self {
        self.ids = ids;
        self
    }

    /// Puts this name, and a dot, before the names of all topics, and keeps the state apart from that of other names:
    /// for several applications, or stages of one, on one broker and one store. Of letters, digits, `.`, `_` and `-`.
    /// None unless set.
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Namespace::new(name.into());
        self
    }

    /// How many partitions a workflow's commands have: the largest number of workers that share one workflow. 8 unless
    /// set, at least 1. Fixed when the workflow's topics are first declared.
    pub fn partitions(mut self, partitions: impl TryInto<NonZeroU32>) -> Self {
        match partitions.try_into() {
            Ok(partitions) => self.partitions = partitions,
            Err(_) => self.refuse("a workflow has at least one partition: write .partitions(1) or more"),
        }
        self
    }

    /// How many instances of each workflow are kept in memory; the others are replayed when something arrives for
    /// them. 10,000 unless set, at least 1.
    pub fn cache(mut self, instances: impl TryInto<NonZeroUsize>) -> Self {
        match instances.try_into() {
            Ok(instances) => self.settings.cache = instances,
            Err(_) => self.refuse("at least one instance is kept in memory: write .cache(1) or more"),
        }
        self
    }

    /// Keeps the first complaint about a setting, for the caller that awaits the connection.
    fn refuse(&mut self, problem: &'static str) {
        self.refused.get_or_insert(problem);
    }

    /// Whether what happens is published on the event topics. It is, unless set otherwise.
    pub fn events(mut self, publish: bool) -> Self {
        self.settings.events = publish;
        self
    }

    /// Encodes payloads before they leave this process, and decodes them when they come in: arguments and results of
    /// tasks, inputs and results of instances, signals, updates, queries, heartbeats, errors of the author's own types;
    /// on the broker, in the store and in answers. To encrypt them, say, or to compress them.
    ///
    /// Not encoded are ids, tags, attributes, names of workflows, methods and signals, times, the texts of errors and
    /// of reasons, and `null`. A value that does not fit its type, or differs in a replay, may be quoted there and in
    /// logs.
    ///
    /// All workers and clients of the application have it. Beside each payload stands the name of its codec, so that a
    /// history may have payloads of several: a [former codec](Self::former_codec) reads those of before, and payloads
    /// from before there was a codec are read as they are. A process without the codec leaves what it cannot read to
    /// others; an instance stops whose history it cannot read, and goes on where the codec is.
    ///
    /// ```no_run
    /// # use std::error::Error;
    /// # use std::sync::Arc;
    /// # use partitura_broker::Broker;
    /// # use partitura_engine::{Partitura, PayloadCodec};
    /// #[derive(Debug)]
    /// struct Aes(/* a key */);
    ///
    /// impl PayloadCodec for Aes {
    ///     fn name(&self) -> &str {
    ///         "aes-256/2026-11"
    ///     }
    ///
    ///     fn encode(&self, json: &[u8]) -> Vec<u8> {
    ///         seal(json)
    ///     }
    ///
    ///     fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    ///         open(bytes)
    ///     }
    /// }
    /// # fn seal(json: &[u8]) -> Vec<u8> { json.to_vec() }
    /// # fn open(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> { Ok(bytes.to_vec()) }
    ///
    /// # async fn example(broker: Arc<dyn Broker>) -> partitura_broker::Result<()> {
    /// let partitura = Partitura::on(broker).codec(Aes()).await?;
    /// # Ok(()) }
    /// ```
    pub fn codec(mut self, codec: impl PayloadCodec + 'static) -> Self {
        self.payloads.write_with(Arc::new(codec));
        self
    }

    /// Decodes payloads that were encoded by this codec, when another [encodes](Self::codec) by now, or none. Keep it
    /// for as long as there are histories, messages or dead letters of that time.
    pub fn former_codec(mut self, codec: impl PayloadCodec + 'static) -> Self {
        self.payloads.read_with(Arc::new(codec));
        self
    }

    /// How long a worker that is stopped waits for the tasks that run. 10 s unless set. Work that is not finished then
    /// is dropped, and runs again elsewhere.
    pub fn drain_within(mut self, limit: Duration) -> Self {
        self.settings.drain_within = limit;
        self
    }

    /// With how many crashes of its process a task or a turn is given up: 5 unless set, 0: never. One counts as 2.
    ///
    /// A method or the code of a workflow may end the process that runs it: by an abort, a stack overflow, too much
    /// memory. A message that is delivered again after a crash is counted in the store before it runs. From the second
    /// crash on, one such task or turn runs at a time in the process. A task that is given up has failed for its
    /// workflow, with [`WorkerLost`](partitura_workflow::FailureKind::WorkerLost), and becomes a dead letter; an
    /// instance whose turn is given up is stopped. A worker that only runs services needs the [store](Self::store) for
    /// this, unless its broker has transactions.
    pub fn crashes(mut self, limit: u32) -> Self {
        self.settings.crashes = limit;
        self
    }

    /// How long a client that awaits an outcome waits at most before it asks again: the worker that knew who waits may
    /// be gone. 10 minutes unless set, at least 100 ms; the first time it asks again after 5 seconds.
    pub fn ask_again(mut self, at_most: Duration) -> Self {
        self.settings.ask_again = at_most.max(Duration::from_millis(100));
        self
    }

    /// How long to wait for a broker that is not there yet, or not any more, as workers do when they start. Not at all
    /// unless set.
    pub fn wait(mut self, limit: Duration) -> Self {
        self.settings.wait = limit;
        self
    }

    /// How long the history of a run may become before it is warned about, and before the instance stops.
    pub fn history_limits(mut self, limits: HistoryLimits) -> Self {
        self.settings.history_limits = limits;
        self
    }

    /// How long instances are kept that have ended, unless [`Worker::retention`](crate::Worker::retention) says
    /// otherwise for their workflow: a `Duration`, or [`Retention::Forever`]. 30 days unless set. An instance that has
    /// ended already keeps the time that was set then.
    pub fn retention(mut self, retention: impl Into<Retention>) -> Self {
        self.settings.retention = retention.into();
        self
    }

    /// Sets the reaction to an instance whose code, replayed, asks for the same with other values. It is warned about
    /// unless set.
    pub fn replay_values(mut self, values: ReplayValues) -> Self {
        self.settings.replay_values = values;
        self
    }

    /// Links spans to a tracing system. Without one, the spans of different processes are not linked.
    pub fn propagator(mut self, propagator: Arc<dyn Propagator>) -> Self {
        self.propagation = Propagation::new(propagator);
        self
    }

    /// Puts code around all requests of clients, tasks and turns of this connection, inside of the layers that were set
    /// before.
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.add(layer);
        self
    }

    /// For test environments: what panics once an update of an instance will not be answered, by workflow and id.
    #[doc(hidden)]
    pub fn hopeless(
        mut self,
        hopeless: impl Fn(&str, &str) -> BoxFuture<'static, Infallible> + Send + Sync + 'static,
    ) -> Self {
        self.hopeless = Hopeless(Some(Arc::new(hopeless)));
        self
    }

    async fn connect(self) -> Result<Partitura> {
        let Self { broker, store, clock, ids, namespace, partitions, settings, payloads, .. } = self;
        let Self { propagation, layers, hopeless, refused, .. } = self;
        if let Some(problem) = refused {
            return Err(Error::new(ErrorKind::InvalidArgument, "connect", problem));
        }
        namespace.check()?;
        payloads.check()?;
        let directory = Directory::new(broker.clone(), namespace.clone(), partitions.get());
        let directory = Arc::new(directory.payloads_by(payloads.clone()));
        let mailbox = retry_for(settings.wait, "open an inbox", || Mailbox::open(&*broker, &payloads)).await?;
        let (mailbox, producer) = (Arc::new(mailbox), broker.producer(ProducerOptions::default()).await?);
        let corrected = broker.clock();
        let reference = match (&clock, &store) {
            (Some(_), _) => Reference::Own,
            (None, Some(store)) => Reference::Store(store.clone()),
            (None, None) if broker.transactions().is_some() => Reference::Own,
            (None, None) => Reference::workflow_runners(mailbox.clone()),
        };
        let clock = clock.unwrap_or_else(|| Arc::new(corrected.clone()));
        let time = Timekeeper::new(corrected, reference);
        let stored = TurnStore::of_client(&broker, store.clone(), namespace.clone()).payloads_by(&payloads);
        let rates = Arc::new(Rates::new(stored.clone(), clock.clone()));
        let client = Client::new(Connection {
            directory: directory.clone(),
            producer,
            mailbox: mailbox.clone(),
            ids: ids.clone(),
            stored: stored.clone(),
            clock: clock.clone(),
            ask_again: settings.ask_again,
            propagation: propagation.clone(),
            layers: layers.clone(),
            hopeless,
        });
        Ok(Partitura(Arc::new(Core {
            broker,
            store,
            clock,
            time,
            ids,
            namespace,
            directory,
            mailbox,
            settings,
            client,
            propagation,
            workers: Workers::default(),
            pauses: Arc::new(Pauses::new(stored)),
            rates,
            layers,
        })))
    }
}

impl IntoFuture for Builder {
    type Output = Result<Partitura>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connect())
    }
}
