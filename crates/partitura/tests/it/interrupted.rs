//! Nothing is lost and nothing is done twice because something is refused, waits, or comes late.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura::{ChildError, Cx, Partitura, Retry, RunningWorker, Status, TaskContext, millis, minutes, seconds};
use partitura_broker::{Entry, ErrorKind, Put, Result as BrokerResult, ScanRange, Space, Version};
use partitura_engine::{BrokerStore, Store};

use crate::between::Place;
use crate::support::{Oops, Waits, WaitsSignal, soon};
use crate::troubled::{Troubled, Virtual, embedded};

#[partitura::service]
trait First {
    async fn ring(&self) -> u32;
}

#[partitura::service]
pub(crate) trait Second {
    async fn ring(&self) -> u32;
    /// Fails at once.
    async fn fail(&self) -> Result<u32, Oops>;
    /// Beats once a second, for `seconds` seconds.
    async fn beat(&self, seconds: u32) -> u32;
    /// Takes `seconds` seconds.
    async fn take(&self, seconds: u64) -> u64;
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Bells(Arc<Mutex<BTreeMap<String, u32>>>);

impl Bells {
    fn count(&self) {
        let task = TaskContext::current().expect("inside of a task");
        let key = format!("{} {}", task.idempotency_key(), task.attempt());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }

    pub(crate) fn calls(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl First for Bells {
    async fn ring(&self) -> u32 {
        self.count();
        1
    }
}

impl Second for Bells {
    async fn ring(&self) -> u32 {
        self.count();
        2
    }

    async fn fail(&self) -> Result<u32, Oops> {
        self.count();
        Err(Oops::Busy)
    }

    async fn beat(&self, seconds: u32) -> u32 {
        self.count();
        let task = TaskContext::current().expect("inside of a task");
        for done in 0..seconds {
            task.heartbeat(&done).expect("a number");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        seconds
    }

    async fn take(&self, seconds: u64) -> u64 {
        self.count();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        seconds
    }
}

#[derive(Debug, Default)]
pub(crate) struct Rings;

#[partitura::workflow]
impl Rings {
    #[run]
    async fn run(cx: Cx<Self>, what: String) -> Result<u64, Oops> {
        let (first, second) = (cx.service::<FirstStub>(), cx.service::<SecondStub>());
        Ok(match what.as_str() {
            "both" => {
                let one = first.ring().start();
                let two = second.ring().start();
                u64::from(one.await? + two.await?)
            }
            "first" => u64::from(first.ring().await?),
            "beat" => u64::from(second.beat(60).heartbeat_timeout(seconds(5)).await?),
            "fail" => {
                let failing = second.fail().retry(Retry::fixed(millis(10))).retry_errors();
                u64::from(failing.heartbeat_timeout(seconds(5)).await?)
            }
            _ => second.take(30).retry(Retry::none()).await?,
        })
    }
}

pub(crate) async fn conduct(partitura: &Partitura) -> RunningWorker {
    partitura.worker().workflow::<Rings>().workflow::<Waits>().start().await.expect("a worker")
}

/// A message of two that were refused goes out when its cause is mended; not again and again until the other's is, too.
#[tokio::test(start_paused = true)]
async fn of_two_refused_messages_one_that_is_taken_is_sent_once() {
    let (place, first, second) = (Place::new(), Bells::default(), Bells::default());
    let process = place.process().await;
    let worker = process.worker().workflow::<Rings>().service(FirstService(first.clone()));
    let worker = worker.service(SecondService(second.clone())).start().await.expect("a worker");
    place.refuse(|message| message.topic.as_str().ends_with(".tasks").then_some(ErrorKind::Unauthorized));
    let both = place.process().await.client().workflow::<Rings>("b");
    both.start("both".into()).await.expect("started");
    tokio::time::sleep(seconds(1)).await;
    place.refuse(|message| message.topic.as_str().ends_with("Second.tasks").then_some(ErrorKind::Unauthorized));
    tokio::time::sleep(minutes(60)).await;
    assert_eq!((first.calls(), second.calls()), (1, 0));
    place.accept();
    // Longer than a stopped instance ever waits before it tries again.
    tokio::time::sleep(minutes(12)).await;
    assert_eq!(within_an_hour(both.result()).await.expect("a result"), 3);
    assert_eq!((first.calls(), second.calls()), (1, 1));
    worker.stop().await.expect("stopped");
}

/// Waits for longer than anything waits here.
pub(crate) async fn within_an_hour<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(minutes(60), future).await.expect("it hangs")
}

#[derive(Debug, Default)]
struct Parent;

#[partitura::workflow]
impl Parent {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, ChildError<Oops>> {
        cx.child::<Waits>("child").run(()).await
    }
}

/// The last words of a child are refused for a minute.
#[tokio::test(start_paused = true)]
async fn what_was_refused_of_a_workflow_that_has_ended_goes_out_when_the_cause_is_mended() {
    let place = Place::new();
    let process = place.process().await;
    let worker = process.worker().workflow::<Parent>().workflow::<Waits>().start().await.expect("a worker");
    let client = place.process().await.client();
    let parent = client.workflow::<Parent>("parent");
    parent.start(()).await.expect("started");
    place.refuse(|message| message.id.as_str().ends_with(".e").then_some(ErrorKind::Unauthorized));
    tokio::time::sleep(seconds(1)).await;
    client.workflow::<Waits>("child").signal(WaitsSignal::release("free".into())).await.expect("sent");
    tokio::time::sleep(minutes(1)).await;
    assert_eq!(client.workflow::<Waits>("child").describe().await.expect("described").status, Status::Completed);
    place.accept();
    assert_eq!(within_an_hour(parent.result()).await.expect("a result"), "free");
    worker.stop().await.expect("stopped");
}

/// Task refused; the workflow is terminated; the cause is mended: nothing is run for it any more.
#[tokio::test(start_paused = true)]
async fn a_task_that_was_refused_is_not_sent_after_its_workflow_was_terminated() {
    let (place, first) = (Place::new(), Bells::default());
    let process = place.process().await;
    let worker = process.worker().workflow::<Rings>().service(FirstService(first.clone()));
    let worker = worker.start().await.expect("a worker");
    place.refuse(|message| message.topic.as_str().ends_with(".tasks").then_some(ErrorKind::Unauthorized));
    let rings = place.process().await.client().workflow::<Rings>("b");
    rings.start("first".into()).await.expect("started");
    tokio::time::sleep(seconds(1)).await;
    rings.terminate("enough").await.expect("sent");
    place.accept();
    tokio::time::sleep(minutes(60)).await;
    assert_eq!(first.calls(), 0);
    assert_eq!(place.stored("refused").await, 0);
    worker.stop().await.expect("stopped");
}

/// For a minute the broker refuses everything: the word to the instance, too.
#[tokio::test(start_paused = true)]
async fn an_instance_goes_on_though_the_word_that_something_is_refused_was_refused() {
    let (place, first) = (Place::new(), Bells::default());
    let process = place.process().await;
    let worker = process.worker().workflow::<Rings>().service(FirstService(first.clone()));
    let worker = worker.start().await.expect("a worker");
    place.refuse(|message| {
        let refused = message.topic.as_str().ends_with(".tasks") || message.id.as_str().ends_with(".u");
        refused.then_some(ErrorKind::Unauthorized)
    });
    let rings = place.process().await.client().workflow::<Rings>("b");
    rings.start("first".into()).await.expect("started");
    tokio::time::sleep(minutes(1)).await;
    place.accept();
    tokio::time::sleep(minutes(12)).await;
    assert_eq!(within_an_hour(rings.result()).await.expect("a result"), 1);
    assert_eq!(first.calls(), 1);
    worker.stop().await.expect("stopped");
}

static STEPS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default)]
struct Steps;

#[partitura::workflow]
impl Steps {
    #[run]
    async fn run(cx: Cx<Self>, seconds: u64) -> Result<u64, Oops> {
        let id = cx.id().to_owned();
        let stepped = cx.step("count", async move {
            *STEPS.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<u64, Oops>(seconds)
        });
        stepped.await.map_err(|error| Oops::Task(error.to_string()))
    }
}

fn steps_of(name: &str) -> Vec<(String, u32)> {
    let steps = STEPS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    steps.into_iter().filter(|(id, _)| id.starts_with(name)).collect()
}

/// Steps wait for each other in one worker, another joins.
#[tokio::test(start_paused = true)]
async fn steps_that_wait_for_a_place_run_once_though_their_instances_go_elsewhere() {
    let place = Place::new();
    let worker = async || {
        let process = place.process().await;
        let worker = process.worker().workflow::<Steps>().concurrency(NonZeroUsize::new(2).expect("not zero"));
        worker.start().await.expect("a worker")
    };
    let first = worker().await;
    let client = place.process().await.client();
    let all: Vec<_> = (0..12).map(|i| client.workflow::<Steps>(format!("queued{i}"))).collect();
    for steps in &all {
        steps.start(40).await.expect("started");
    }
    tokio::time::sleep(seconds(5)).await;
    let second = worker().await;
    for steps in &all {
        assert_eq!(within_an_hour(steps.result()).await.expect("a result"), 40);
    }
    let again: Vec<_> = steps_of("queued").into_iter().filter(|(_, runs)| *runs != 1).collect();
    assert!(again.is_empty(), "{again:?}");
    drop((first, second));
}

/// The result of a step is refused for a minute.
#[tokio::test(start_paused = true)]
async fn a_step_whose_result_is_refused_for_a_while_runs_once() {
    let place = Place::new();
    let process = place.process().await;
    let worker = process.worker().workflow::<Steps>().start().await.expect("a worker");
    place.refuse(|message| message.id.as_str().ends_with(".r").then_some(ErrorKind::Unauthorized));
    let steps = place.process().await.client().workflow::<Steps>("refused");
    steps.start(1).await.expect("started");
    tokio::time::sleep(minutes(2)).await;
    place.accept();
    assert_eq!(within_an_hour(steps.result()).await.expect("a result"), 1);
    assert_eq!(steps_of("refused"), [("refused".to_owned(), 1)]);
    worker.stop().await.expect("stopped");
}

/// The workers of the workflow are replaced by others, after a while, and the task beats all the time.
async fn a_beating_task_runs_once(transactions: bool) {
    let (clock, bells) = (Virtual::new(), Bells::default());
    let broker = embedded(&clock);
    let sound = || if transactions { Troubled::new(&broker) } else { Troubled::new(&broker).without_transactions() };
    let serving = sound().engine(&clock).await;
    let service = serving.worker().service(SecondService(bells.clone())).start().await.expect("a worker");
    let first = conduct(&sound().engine(&clock).await).await;
    let rings = serving.client().workflow::<Rings>("beat");
    rings.start("beat".into()).await.expect("started");
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(bells.calls(), 1);
    first.stop().await.expect("stopped");
    tokio::time::sleep(seconds(20)).await;
    let second = conduct(&sound().engine(&clock).await).await;
    assert_eq!(within_an_hour(rings.result()).await.expect("a result"), 60);
    assert_eq!(bells.calls(), 1);
    service.stop().await.expect("stopped");
    second.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_beats_runs_once_though_nobody_hears_it_for_a_while() {
    a_beating_task_runs_once(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_beats_runs_once_though_nobody_hears_it_for_a_while_with_an_outbox() {
    a_beating_task_runs_once(false).await;
}

/// A watched task fails, and the topic of its service refuses.
#[tokio::test(start_paused = true)]
async fn a_stopped_instance_answers_though_the_topic_of_a_watched_task_refuses() {
    let (place, bells) = (Place::new(), Bells::default());
    let process = place.process().await;
    let worker = process.worker().workflow::<Rings>().service(SecondService(bells.clone()));
    let worker = worker.start().await.expect("a worker");
    let rings = place.process().await.client().workflow::<Rings>("b");
    rings.start("fail".into()).await.expect("started");
    tokio::time::sleep(seconds(1)).await;
    place.refuse(|message| message.topic.as_str().ends_with(".tasks").then_some(ErrorKind::Unauthorized));
    tokio::time::sleep(minutes(20)).await;
    let described = soon(rings.describe()).await.expect("described");
    assert!(matches!(described.status, Status::Stopped { .. }), "{described:?}");
    soon(async { rings.terminate("enough").await }).await.expect("sent");
    soon(rings.result()).await.expect_err("it is terminated");
    worker.stop().await.expect("stopped");
}

/// A store in which a write takes its time, and lands though its writer is gone.
#[derive(Debug)]
struct Late {
    inner: BrokerStore,
    is_late: Arc<AtomicBool>,
}

#[async_trait]
impl Store for Late {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<BrokerResult<()>> {
        let inner = self.inner.clone();
        if !self.is_late.load(Ordering::SeqCst) {
            return inner.write(groups).await;
        }
        let written = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            inner.write(groups).await
        });
        written.await.expect("written")
    }

    async fn get(&self, space: Space, key: Bytes) -> BrokerResult<Option<(Version, Bytes)>> {
        self.inner.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> BrokerResult<Vec<Entry>> {
        self.inner.scan(range, limit).await
    }
}

/// An owner's write is under way when its process dies. The next owner reads the outbox before the write lands, and the
/// instance after it.
#[tokio::test(start_paused = true)]
async fn a_turn_that_lands_after_the_next_owner_has_read_the_outbox_is_sent() {
    let (clock, bells) = (Virtual::new(), Bells::default());
    let (broker, state) = (embedded(&clock), embedded(&clock));
    let engine = async |is_late: &Arc<AtomicBool>| {
        let store = Late { inner: BrokerStore::new(state.clone()).expect("it keeps state"), is_late: is_late.clone() };
        Partitura::on(Troubled::new(&broker).without_transactions().broker())
            .store(Arc::new(store))
            .clock(clock.clone())
            .ask_again(Duration::MAX)
            .await
            .expect("an engine")
    };
    let (late, other) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let serving = engine(&other).await;
    let service = serving.worker().service(FirstService(bells.clone())).start().await.expect("a worker");
    let first = conduct(&engine(&late).await).await;
    let rings = serving.client().workflow::<Rings>("late");
    let starting = serving.client().workflow::<Rings>("late");
    let started = tokio::spawn(async move { starting.start("first".into()).await.map(drop) });
    tokio::time::sleep(seconds(5)).await;
    // The next owner's write waits for the other, as in a database, and conflicts.
    other.store(true, Ordering::SeqCst);
    drop(first);
    let second = conduct(&engine(&other).await).await;
    tokio::time::sleep(seconds(30)).await;
    other.store(false, Ordering::SeqCst);
    assert_eq!(within_an_hour(rings.result()).await.expect("a result"), 1);
    assert_eq!(bells.calls(), 1);
    drop(started);
    service.stop().await.expect("stopped");
    second.stop().await.expect("stopped");
}
