//! Tasks that run for longer than the broker lets a delivery be held.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use partitura::{Cx, Pausable, Retry, RunningWorker, TaskContext, minutes, seconds};

use crate::support::Oops;
use crate::troubled::{Troubled, Troubles, Virtual, embedded};

#[partitura::service]
trait Render {
    async fn render(&self, minutes: u64) -> Result<u32, Oops>;
}

#[derive(Debug, Clone, Default)]
struct Renders(Arc<AtomicU32>);

impl Render for Renders {
    async fn render(&self, minutes: u64) -> Result<u32, Oops> {
        self.0.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
        Ok(TaskContext::current().expect("inside of a task").attempt())
    }
}

#[derive(Debug, Default)]
struct Film;

#[partitura::workflow]
impl Film {
    #[run]
    async fn run(cx: Cx<Self>, minutes: u64) -> Result<u32, Oops> {
        let render = cx.service::<RenderStub>();
        Ok(render.render(minutes).retry(Retry::none()).no_timeout().await?)
    }
}

struct Studio {
    clock: Arc<Virtual>,
    broker: Arc<partitura_embedded::Embedded>,
    renders: Renders,
}

impl Studio {
    fn new() -> Self {
        let clock = Virtual::new();
        Self { broker: embedded(&clock), clock, renders: Renders::default() }
    }

    /// A process that renders, on a broker that lets a delivery be held for a minute.
    async fn process(&self, transactions: bool, tasks: usize) -> (RunningWorker, Arc<Troubles>) {
        let broker = Troubled::new(&self.broker).hold(minutes(1));
        let broker = if transactions { broker } else { broker.without_transactions() };
        let troubles = broker.troubles.clone();
        let worker = broker.engine(&self.clock).await.worker().service(RenderService(self.renders.clone()));
        let worker = worker.concurrency(tasks).start().await.expect("a worker");
        (worker, troubles)
    }

    async fn film(&self) -> (partitura::WorkflowHandle<Film>, RunningWorker) {
        let partitura = Troubled::new(&self.broker).engine(&self.clock).await;
        let worker = partitura.worker().workflow::<Film>().start().await.expect("a worker");
        (partitura.client().workflow::<Film>("film"), worker)
    }

    fn calls(&self) -> u32 {
        self.renders.0.load(Ordering::SeqCst)
    }
}

async fn runs_once_for_longer_than_a_delivery_may_be_held(transactions: bool) {
    let studio = Studio::new();
    let (worker, troubles) = studio.process(transactions, 10).await;
    // A worker that gets a copy of the request asks the one that has it.
    let (other, others) = studio.process(transactions, 10).await;
    let (film, conducting) = studio.film().await;
    film.start(180).await.expect("started");
    assert_eq!(film.result().await.expect("a result"), 1);
    tokio::time::sleep(minutes(10)).await;
    assert_eq!((studio.calls(), troubles.overheld(), others.overheld()), (1, 0, 0));
    worker.stop().await.expect("stopped");
    other.stop().await.expect("stopped");
    conducting.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_once_for_longer_than_a_delivery_may_be_held() {
    runs_once_for_longer_than_a_delivery_may_be_held(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_once_for_longer_than_a_delivery_may_be_held_where_there_are_transactions() {
    runs_once_for_longer_than_a_delivery_may_be_held(true).await;
}

/// The lease of the task has ended while it waited for the resumption, and so it has no delivery to put back.
#[tokio::test(start_paused = true)]
async fn a_task_that_was_paused_for_long_as_its_worker_was_stopped_runs_once() {
    for transactions in [true, false] {
        let studio = Studio::new();
        let (worker, _) = studio.process(transactions, 10).await;
        let (film, conducting) = studio.film().await;
        let client = Troubled::new(&studio.broker).engine(&studio.clock).await.client();
        let service = Pausable::service::<RenderStub>();
        client.pause(&service, "the studio is closed").await.expect("paused");
        film.start(5).await.expect("started");
        tokio::time::sleep(minutes(2)).await;
        worker.stop().await.expect("stopped");
        client.resume(&service).await.expect("resumed");
        let mut others = Vec::new();
        for _ in 0..3 {
            others.push(studio.process(transactions, 10).await.0);
        }
        assert_eq!(film.result().await.expect("a result"), 1);
        tokio::time::sleep(minutes(10)).await;
        assert_eq!(studio.calls(), 1);
        conducting.stop().await.expect("stopped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_task_whose_process_is_gone_runs_in_another() {
    let studio = Studio::new();
    let (worker, _) = studio.process(false, 10).await;
    let (film, conducting) = studio.film().await;
    film.start(5).await.expect("started");
    tokio::time::sleep(minutes(3)).await;
    assert_eq!(studio.calls(), 1);
    drop(worker);
    let (next, _) = studio.process(false, 10).await;
    tokio::time::sleep(minutes(2)).await;
    assert_eq!(studio.calls(), 2);
    assert_eq!(film.result().await.expect("a result"), 1);
    tokio::time::sleep(minutes(10)).await;
    assert_eq!(studio.calls(), 2);
    next.stop().await.expect("stopped");
    conducting.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_wait_for_long_ones_do_not_hold_their_deliveries_either() {
    let studio = Studio::new();
    let (worker, troubles) = studio.process(false, 1).await;
    let partitura = Troubled::new(&studio.broker).engine(&studio.clock).await;
    let conducting = partitura.worker().workflow::<Film>().start().await.expect("a worker");
    let films: Vec<_> = (0..3).map(|i| partitura.client().workflow::<Film>(format!("f{i}"))).collect();
    for film in &films {
        film.start(3).await.expect("started");
    }
    tokio::time::sleep(minutes(2)).await;
    assert_eq!(studio.calls(), 1, "one at a time");
    for film in &films {
        assert_eq!(film.result().await.expect("a result"), 1);
    }
    assert_eq!((studio.calls(), troubles.overheld()), (3, 0));
    worker.stop().await.expect("stopped");
    conducting.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stopped_waits_for_long_tasks_as_well() {
    let studio = Studio::new();
    let (worker, _) = studio.process(false, 10).await;
    let (film, conducting) = studio.film().await;
    film.start(1).await.expect("started");
    tokio::time::sleep(seconds(55)).await;
    worker.stop().await.expect("stopped");
    assert_eq!((film.result().await.expect("a result"), studio.calls()), (1, 1));
    conducting.stop().await.expect("stopped");
}
