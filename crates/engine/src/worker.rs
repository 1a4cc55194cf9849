mod check;
mod joining;
mod running;

use std::collections::BTreeMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{try_join, try_join_all};
use partitura_broker::{Error, ErrorKind, Result};
use partitura_workflow::{Definition, Limit, Service, Workflow};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use self::check::{CheckReport, Misfit};
use self::joining::{Build, RETRY_FOR, check_build, conduct, serve};
pub use self::running::RunningWorker;
use crate::core::Core;
use crate::layer::{Layer, Layers};
use crate::messaging::directory::Destination;
use crate::retry_for::retry_for;
use crate::storage::served;
use crate::task::limits::Limits;
use crate::workflow::retention::Retention;

/// For how long what this build does not know is left to others, unless set.
const ELSEWHERE: Duration = Duration::from_secs(300);

/// Runs workflows and services in this process.
///
/// ```text
/// partitura.worker()
///     .service(PaymentsService(Acquirer::new()))
///     .workflow::<Checkout>()
///     .run_until(shutdown_signal()).await?;
/// ```
pub struct Worker {
    core: Arc<Core>,
    /// One for each name.
    definitions: Vec<Definition>,
    /// A workflow of which a version was registered twice.
    repeated: Option<&'static str>,
    services: Vec<Box<dyn Service>>,
    limits: Vec<Limit>,
    /// `None`: what was asked for is refused.
    concurrency: Option<NonZeroUsize>,
    /// `None`: it was not stated.
    build: Option<Arc<str>>,
    elsewhere: Duration,
    /// Of workflows that have one of their own.
    retentions: BTreeMap<&'static str, Retention>,
    layers: Layers,
}

impl Worker {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let (concurrency, build) = (NonZeroUsize::new(1_000), None);
        Self {
            core,
            definitions: Vec::new(),
            repeated: None,
            services: Vec::new(),
            limits: Vec::new(),
            concurrency,
            build,
            elsewhere: ELSEWHERE,
            retentions: BTreeMap::new(),
            layers: Layers::default(),
        }
    }

    /// Runs the tasks of a service: `PaymentsService(implementation)`. A task of a service that no worker runs waits
    /// until one does.
    #[must_use]
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Box::new(service));
        self
    }

    /// Runs the instances of a workflow. Register the workflows of children, too: a child whose workflow no worker runs
    /// waits, and its parent with it. Several [versions](Workflow::VERSION) of one workflow may be registered: new
    /// instances get the highest.
    #[must_use]
    pub fn workflow<W: Workflow>(mut self) -> Self {
        let definition = Definition::for_workflow::<W>();
        match self.definitions.iter_mut().find(|known| known.name() == definition.name()) {
            Some(known) => self.repeated = self.repeated.or((!known.add(definition)).then_some(W::NAME)),
            None => self.definitions.push(definition),
        }
        self
    }

    /// How many tasks of each service, and how many turns of each workflow, run at a time. 1,000 unless set, at least
    /// 1.
    #[must_use]
    pub fn concurrency(mut self, most: impl TryInto<NonZeroUsize>) -> Self {
        self.concurrency = most.try_into().ok();
        self
    }

    /// Limits how many tasks run at a time, or begin in a second, in this worker: of all its services, of one, of a
    /// method, or for each value of an argument. Several limits all hold, also those that a trait states by
    /// `#[limit(…)]`.
    ///
    /// A task that there is no room for waits here for moments, and otherwise in the broker, where other workers may
    /// take it. Tasks with different keys take turns.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Which build of the program this is, for messages about what one build knows and another does not, and in the
    /// histories of workflows: `env!("CARGO_PKG_VERSION")` of the program, or the hash of its commit. The version of
    /// Partitura unless set.
    ///
    /// A worker that takes over a partition tries the stopped instances in it, since its code may be the repaired one.
    /// One whose build is stated leaves out those that the same build has tried without success.
    #[must_use]
    pub fn build_id(mut self, build: impl Into<Arc<str>>) -> Self {
        self.build = Some(build.into());
        self
    }

    /// For how long what this build does not know is left to other workers before it is reported: while a new version
    /// is rolled out, what is meant for it reaches the old one as well. That is a task's method or arguments, and of a
    /// workflow commands, signals, inputs and results; what comes behind them for the same instance waits with them. 5
    /// minutes unless set; zero: not at all.
    #[must_use]
    pub fn try_elsewhere(mut self, limit: Duration) -> Self {
        self.elsewhere = limit;
        self
    }

    /// How long this worker keeps instances of the workflow `W` that end: a `Duration`, or [`Retention::Forever`]. The
    /// retention of [the connection](crate::Builder::retention) unless set. All workers of a workflow should say the
    /// same: the one that takes the last turn decides.
    #[must_use]
    pub fn retention<W: Workflow>(mut self, retention: impl Into<Retention>) -> Self {
        self.retentions.insert(W::NAME, retention.into());
        self
    }

    /// Puts code around the tasks and turns of this worker, inside of the layers that were set before.
    #[must_use]
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.add(layer);
        self
    }

    /// Starts, and runs until `shutdown` resolves; then finishes what runs and leaves. Told so while it starts, it
    /// starts no further.
    ///
    /// # Errors
    /// As [`start`](Self::start), and what ended the worker early.
    ///
    /// # Cancel safety
    /// Dropped, the worker is gone as if it had crashed: nothing is lost, and what ran runs again.
    pub async fn run_until(self, shutdown: impl Future) -> Result<()> {
        let mut shutdown = pin!(shutdown);
        let mut running = tokio::select! {
            biased;
            _ = &mut shutdown => return Ok(()),
            running = self.start() => running?,
        };
        tokio::select! {
            biased;
            _ = shutdown => running.stop().await,
            ended = running.ended() => ended,
        }
    }

    /// Declares the topics, joins the subscriptions and begins.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) when topics exist with another number of partitions;
    /// [`Unsupported`](ErrorKind::Unsupported) when the broker cannot keep state and no store was given;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a service or workflow that is registered twice, for a limit
    /// that lets nothing run or is of nothing that this worker runs, and for a build id that is empty, longer than 255
    /// bytes or contains control characters; those of the broker. Retryable ones are waited out for a minute: a worker
    /// is often started together with its broker.
    ///
    /// # Cancel safety
    /// Dropped, nothing runs.
    pub async fn start(self) -> Result<RunningWorker> {
        let all = self.destinations()?;
        let Self {
            core,
            definitions,
            repeated: _,
            services,
            limits,
            concurrency,
            build,
            elsewhere,
            retentions,
            layers,
        } = self;
        let concurrency = concurrency.ok_or_else(|| {
            let message = "a worker runs at least one task at a time: write .concurrency(1) or more";
            Error::new(ErrorKind::InvalidArgument, "start", message)
        })?;
        build.as_deref().map_or(Ok(()), check_build)?;
        let limits = Arc::new(Limits::new(limits, &services, concurrency.get())?.kept_by(&core.rates)?);
        let standing = core.workers.start();
        let (shutdown, is_shutdown) = oneshot::channel();
        let is_shutdown = is_shutdown.shared();
        let begin = || core.time.begin(&*core.broker, &core.mailbox, &core.directory);
        retry_for(RETRY_FOR, "compare clocks", begin).await?;
        let payloads = core.directory.payloads();
        let build = Build {
            code: build
                .as_deref()
                .map_or_else(|| core.ids.fresh().to_string(), |build| payloads.of_build(build))
                .into(),
            id: build.unwrap_or_else(|| env!("CARGO_PKG_VERSION").into()),
            elsewhere,
            layers: core.layers.clone().around(layers),
        };
        // All at once: joining takes some brokers seconds.
        let conducting = definitions.into_iter().map(|definition| {
            let retention = retentions.get(definition.name()).copied().unwrap_or(core.settings.retention);
            conduct(&core, (definition, retention), &build, concurrency, &is_shutdown)
        });
        let serving = services.into_iter().map(|service| {
            let deliveries = limits.deliveries(service.name(), concurrency.get());
            let concurrency = NonZeroUsize::new(deliveries).unwrap_or(NonZeroUsize::MIN);
            serve(&core, (service, limits.clone()), &build, concurrency, &is_shutdown)
        });
        let (conducting, serving) = try_join(try_join_all(conducting), try_join_all(serving)).await?;
        let tasks: Vec<_> = conducting.into_iter().chain(serving).collect();
        standing.runs(tasks.iter().map(JoinHandle::abort_handle).collect());
        served::note(&core.client.connection().stored, &all, &build.id, core.clock.now()).await;
        Ok(RunningWorker { shutdown: Some(shutdown), tasks, standing })
    }

    /// The services and workflows that it serves: each once.
    fn destinations(&self) -> Result<Vec<Destination>> {
        let workflows = self.definitions.iter().map(|definition| Destination::Workflow(definition.name().to_owned()));
        let services = self.services.iter().map(|service| Destination::Service(service.name().to_owned()));
        let all: Vec<Destination> = workflows.chain(services).collect();
        let repeated = all.iter().enumerate().find(|(i, destination)| all[..*i].contains(destination));
        let repeated = repeated.map(|(_, destination)| destination.parts());
        if let Some((what, name)) = repeated.or(self.repeated.map(|name| ("workflow", name))) {
            let message = format!("the {what} is registered twice with this worker; give one of them another name");
            return Err(Error::new(ErrorKind::InvalidArgument, "start", message).of(name));
        }
        Ok(all)
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let services: Vec<_> = self.services.iter().map(|service| service.name()).collect();
        f.debug_struct("Worker").field("workflows", &self.definitions).field("services", &services).finish()
    }
}
