//! How a worker joins its subscriptions, and begins to run services and workflows.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Credit, Error, ErrorKind, Producer, ProducerOptions, Result};
use partitura_lanes::{Handler, LaneOptions, Lanes, Retry, SubscriptionTopics};
use partitura_workflow::{Definition, Service};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::core::Core;
use crate::layer::Layers;
use crate::messaging::directory::Destination;
use crate::retry_for::retry_for;
use crate::shutdown::{Shutdown, until};
use crate::storage::turn_store::TurnStore;
use crate::task::limits::Limits;
use crate::task::{Parts, TaskRunner};
use crate::wire::events::EventTopic;
use crate::wire::{ids, sizes};
use crate::workflow::delay_cancellation::DelayCancellation;
use crate::workflow::listeners::Listeners;
use crate::workflow::retention::Retention;
use crate::workflow::runner::WorkflowRunner;
use crate::workflow::steps::Steps;
use crate::workflow::turn::context::Context;

/// How long a worker that starts waits for a broker or a store that is not there yet, or not any more.
pub(super) const RETRY_FOR: Duration = Duration::from_secs(60);
/// The longest name of a build, in bytes.
const LONGEST_BUILD: usize = 255;
/// Commands to one instance that one turn takes together.
const BATCH: usize = 64;

/// The identity of this program among others of its deployment.
pub(super) struct Build {
    pub(super) id: Arc<str>,
    /// See [`Context::code`].
    pub(super) code: Arc<str>,
    pub(super) elsewhere: Duration,
    pub(super) layers: Layers,
}

/// Refuses what cannot name a build: it goes into headers of messages, logs and pages.
pub(super) fn check_build(build: &str) -> Result<()> {
    let problem = match build {
        "" => "it is empty".to_owned(),
        _ if build.len() > LONGEST_BUILD => format!("it has {} bytes, {LONGEST_BUILD} are allowed", build.len()),
        _ => match build.chars().find(|c| c.is_control()) {
            Some(control) => format!("it contains the control character {control:?}"),
            None => return Ok(()),
        },
    };
    Err(Error::new(ErrorKind::InvalidArgument, "start", format!("{problem}; write .build_id(…) without it"))
        .of(format!("build id {build:?}")))
}

/// Begins to run the tasks of a service.
pub(super) async fn serve(
    core: &Arc<Core>,
    (service, limits): (Box<dyn Service>, Arc<Limits>),
    build: &Build,
    concurrency: NonZeroUsize,
    shutdown: &Shutdown,
) -> Result<JoinHandle<Result<()>>> {
    let name = service.name();
    declare(core, Destination::Service(name.to_owned())).await?;
    let topics = core.directory.service(name)?;
    let runner = TaskRunner::new(Parts {
        service,
        topics: topics.clone(),
        turn_store: TurnStore::of_services(&core.broker).await?.payloads_by(core.directory.payloads()),
        producer: core.broker.producer(ProducerOptions::default()).await?,
        mailbox: core.mailbox.clone(),
        clock: core.clock.clone(),
        broker: core.broker.clone(),
        time: core.time.clone(),
        ids: core.ids.clone(),
        directory: core.directory.clone(),
        events: EventTopic::new(&core.broker, core.directory.payloads(), topics.events.clone(), core.settings.events),
        propagation: core.propagation.clone(),
        capabilities: core.broker.capabilities().clone(),
        build: build.id.clone(),
        elsewhere: build.elsewhere,
        concurrency: concurrency.get(),
        limits,
        crashes: core.crashes(),
        pauses: core.pauses.clone(),
        layers: build.layers.clone(),
        shutdown: shutdown.clone(),
    });
    let lanes = lanes(core, topics.source()?, concurrency, 1, runner.clone()).await?;
    let (shutdown, drain_within) = (shutdown.clone(), core.settings.drain_within);
    Ok(tokio::spawn(async move {
        let _running = runner.until_dropped();
        let serving = lanes.run_until(until(shutdown.clone()));
        let draining = async {
            until(shutdown).await;
            Instant::now()
        };
        let (ended, since) = tokio::join!(serving, draining);
        // Those that hold no delivery any more, which lanes know nothing of.
        if timeout(drain_within.saturating_sub(since.elapsed()), runner.idle()).await.is_err() {
            tracing::warn!(?drain_within, "long tasks were still running and are dropped");
        }
        ended
    }))
}

async fn declare(core: &Arc<Core>, destination: Destination) -> Result<()> {
    retry_for(RETRY_FOR, "declare topics", || core.directory.serve(destination.clone())).await
}

/// Begins to conduct a workflow.
pub(super) async fn conduct(
    core: &Arc<Core>,
    (definition, retention): (Definition, Retention),
    build: &Build,
    concurrency: NonZeroUsize,
    shutdown: &Shutdown,
) -> Result<JoinHandle<Result<()>>> {
    let workflow = definition.name();
    declare(core, Destination::Workflow(workflow.to_owned())).await?;
    let topics = core.directory.workflow(workflow)?;
    let (store, clock, namespace) = (core.store.clone(), core.clock.clone(), core.namespace.clone());
    let named = (workflow, topics.commands.clone());
    let turn_store = TurnStore::of_workflow(&core.broker, store, clock, namespace, named).await?;
    let turn_store = turn_store.payloads_by(core.directory.payloads());
    let producer: Arc<dyn Producer> = core.broker.producer(ProducerOptions::default()).await?.into();
    let context = Context {
        definition: definition.with_fit_check(sizes::fit_check(core.directory.clone())),
        build: build.id.clone(),
        code: build.code.clone(),
        ids: core.ids.clone(),
        clock: core.clock.clone(),
        topics: topics.clone(),
        turn_store: turn_store.clone(),
        directory: core.directory.clone(),
        events: EventTopic::new(&core.broker, core.directory.payloads(), topics.events.clone(), core.settings.events),
        steps: Steps::new(concurrency.get()),
        replay_values: core.settings.replay_values,
        history_limits: core.settings.history_limits,
        retention,
        delay_cancellation: DelayCancellation::new(&*core.broker, &producer),
        listeners: Listeners::default(),
        propagation: core.propagation.clone(),
        pauses: core.pauses.clone(),
        layers: build.layers.clone(),
    };
    let (kept, counted) = ((core.settings.cache, build.elsewhere), (core.crashes(), concurrency));
    let runner = WorkflowRunner::new(context, producer, kept, counted);
    let source = topics.source(core.directory.partitions())?;
    let lanes = lanes(core, source, concurrency, BATCH, runner.clone()).await?;
    let (shutdown, drain_within) = (shutdown.clone(), core.settings.drain_within);
    Ok(tokio::spawn(async move {
        let runner = Abandoned(runner);
        let mut since = Instant::now();
        let told = async {
            until(shutdown).await;
            since = Instant::now();
        };
        lanes.run_until(told).await?;
        // The last turns may have begun steps.
        if timeout(drain_within.saturating_sub(since.elapsed()), runner.0.drained()).await.is_err() {
            tracing::warn!(within = ?drain_within, "steps were still running and are dropped");
        }
        Ok(())
    }))
}

/// Drops what runs beside the lanes of a workflow together with them.
struct Abandoned(WorkflowRunner);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Joins a subscription. A delivery whose handler fails is retried without end: commands and tasks are never given up
/// for want of a working store or broker.
async fn lanes<H: Handler + Clone>(
    core: &Arc<Core>,
    source: SubscriptionTopics,
    concurrency: NonZeroUsize,
    batch: usize,
    handler: H,
) -> Result<Lanes<H>> {
    let options = LaneOptions::default()
        .concurrency(concurrency.get())
        .batch(batch)
        .retry(Retry::exponential().initial(Duration::from_millis(20)).max_interval(Duration::from_secs(10)))
        .credit(Credit { messages: concurrency, ..Credit::default() })
        .drain_within(core.settings.drain_within)
        .clock(core.clock.clone())
        .seed(ids::seed(&*core.ids));
    let open = || Lanes::open(&*core.broker, source.clone(), options.clone(), handler.clone());
    retry_for(RETRY_FOR, "join a subscription", open).await
}
