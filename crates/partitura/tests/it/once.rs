//! Where nothing fails, nothing is done twice.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use partitura::{Cx, RunningWorker, Status, TaskContext, join_all, seconds};
use partitura_broker::ErrorKind;

use crate::between::Place;
use crate::support::{Oops, Three, Waits, WaitsSignal};

#[partitura::service]
pub(crate) trait Slow {
    /// Takes `seconds` seconds.
    async fn take(&self, seconds: u64) -> u64;
}

/// Counts the runs of each task.
#[derive(Debug, Default, Clone)]
struct Counted(Arc<Mutex<BTreeMap<String, u32>>>);

impl Counted {
    fn count(&self, key: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }

    fn runs(&self) -> BTreeMap<String, u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks that `tasks` tasks were run, each once.
    fn assert_once_each(&self, tasks: usize) {
        let runs = self.runs();
        assert_eq!(runs.len(), tasks);
        let again: BTreeMap<_, _> = runs.into_iter().filter(|(_, runs)| *runs != 1).collect();
        assert!(again.is_empty(), "run more than once: {again:?}");
    }
}

impl Slow for Counted {
    async fn take(&self, seconds: u64) -> u64 {
        self.count(TaskContext::current().expect("inside of a task").idempotency_key());
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        seconds
    }
}

/// Runs a number of tasks at once, each for a number of seconds.
#[derive(Debug, Default)]
struct Patient;

#[partitura::workflow]
impl Patient {
    #[run]
    async fn run(cx: Cx<Self>, (tasks, seconds): (u32, u64)) -> Result<u64, Oops> {
        let slow = cx.service::<SlowStub>();
        let taken = join_all((0..tasks).map(|_| slow.take(seconds))).await;
        Ok(taken.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().sum())
    }
}

async fn worker(place: &Place, counted: &Counted) -> RunningWorker {
    let process = place.process().await;
    let worker = process.worker().service(SlowService(counted.clone()));
    worker.workflow::<Patient>().workflow::<Three>().workflow::<Waits>().start().await.expect("a worker")
}

#[tokio::test(start_paused = true)]
async fn a_long_task_runs_once_in_a_process_of_several_workflows() {
    let (place, counted) = (Place::new(), Counted::default());
    let worker = worker(&place, &counted).await;
    let client = place.process().await.client();
    let patient = client.workflow::<Patient>("p");
    patient.start((1, 75)).await.expect("started");
    assert_eq!(patient.result().await.expect("a result"), 75);
    counted.assert_once_each(1);
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn tasks_run_once_while_workers_join_and_leave() {
    let (place, counted) = (Place::new(), Counted::default());
    let mut workers = vec![worker(&place, &counted).await, worker(&place, &counted).await];
    let client = place.process().await.client();
    let patients: Vec<_> = (0..8).map(|i| client.workflow::<Patient>(format!("p{i}"))).collect();
    for patient in &patients {
        patient.start((3, 8)).await.expect("started");
    }
    for _ in 0..4 {
        tokio::time::sleep(seconds(2)).await;
        workers.push(worker(&place, &counted).await);
        tokio::time::sleep(seconds(2)).await;
        workers.remove(0).stop().await.expect("stopped");
    }
    for patient in &patients {
        assert_eq!(patient.result().await.expect("a result"), 24);
    }
    counted.assert_once_each(24);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_while_its_worker_stops_runs_once() {
    let (place, counted) = (Place::new(), Counted::default());
    let first = worker(&place, &counted).await;
    let client = place.process().await.client();
    let patient = client.workflow::<Patient>("p");
    patient.start((1, 3)).await.expect("started");
    tokio::time::sleep(seconds(1)).await;
    first.stop().await.expect("stopped");
    let second = worker(&place, &counted).await;
    assert_eq!(patient.result().await.expect("a result"), 3);
    tokio::time::sleep(seconds(90)).await;
    counted.assert_once_each(1);
    second.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn confirmed_messages_leave_the_outbox_though_nothing_else_happens() {
    let (place, counted) = (Place::new(), Counted::default());
    let worker = worker(&place, &counted).await;
    let client = place.process().await.client();
    client.workflow::<Patient>("p").start((5, 1_000)).await.expect("started");
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(counted.runs().len(), 5);
    assert_eq!(place.stored("outbox").await, 0);
    worker.stop().await.expect("stopped");
}

/// A step that counts itself.
#[derive(Debug, Default)]
struct Stepping;

static STEPS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

#[partitura::workflow]
impl Stepping {
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

async fn stepper(place: &Place) -> RunningWorker {
    let process = place.builder().cache(NonZeroUsize::MIN).await.expect("an engine");
    process.worker().workflow::<Stepping>().start().await.expect("a worker")
}

async fn steps_run_once(name: &str, seconds: u64, joins: bool) {
    let place = Place::new();
    let first = stepper(&place).await;
    let client = place.process().await.client();
    let all: Vec<_> = (0..200).map(|i| client.workflow::<Stepping>(format!("{name}{i}"))).collect();
    for stepping in &all {
        stepping.start(seconds).await.expect("started");
    }
    let second = if joins { Some(stepper(&place).await) } else { None };
    for stepping in &all {
        // Of no use to the instance, and has it read again while its step runs.
        stepping.signal(partitura::Signal::to_channel("nothing", &())).await.expect("sent");
    }
    for stepping in &all {
        assert_eq!(stepping.result().await.expect("a result"), seconds);
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    let runs = STEPS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let own: Vec<_> = runs.into_iter().filter(|(id, _)| id.starts_with(name)).collect();
    assert_eq!(own.len(), 200);
    let again: Vec<_> = own.into_iter().filter(|(_, runs)| *runs != 1).collect();
    assert!(again.is_empty(), "{again:?}");
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn a_step_runs_once_though_its_instance_is_read_again() {
    steps_run_once("short", 0, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_step_runs_once_though_its_instance_goes_elsewhere() {
    steps_run_once("long", 100, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_for_a_while_has_no_task_run_twice() {
    let (place, counted) = (Place::new(), Counted::default());
    let worker = worker(&place, &counted).await;
    let client = place.process().await.client();
    let patient = client.workflow::<Patient>("p");
    place.refuse(|message| message.topic.as_str().ends_with(".tasks").then_some(ErrorKind::Disconnected));
    patient.start((3, 5)).await.expect("started");
    tokio::time::sleep(seconds(600)).await;
    assert!(counted.runs().is_empty());
    place.accept();
    assert_eq!(patient.result().await.expect("a result"), 15);
    counted.assert_once_each(3);
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_stops_its_instance_alone_and_is_sent_once_the_cause_is_mended() {
    let (place, counted) = (Place::new(), Counted::default());
    let first = worker(&place, &counted).await;
    let client = place.process().await.client();
    place.refuse(|message| message.topic.as_str().ends_with(".tasks").then_some(ErrorKind::Unauthorized));
    let patient = client.workflow::<Patient>("p");
    patient.start((2, 5)).await.expect("started");
    let waits = client.workflow::<Waits>("w");
    waits.start(()).await.expect("started");
    tokio::time::sleep(seconds(1)).await;
    let Status::Stopped { reason } = patient.describe().await.expect("described").status else { panic!("it runs") };
    assert!(reason.contains("the test refuses it") && reason.contains("Slow.tasks"), "{reason}");
    // Neither another instance nor another worker is held up.
    first.stop().await.expect("stopped");
    let second = worker(&place, &counted).await;
    waits.signal(WaitsSignal::release("free".into())).await.expect("sent");
    assert_eq!(waits.result().await.expect("a result"), "free");
    assert_eq!((place.stored("outbox").await, place.stored("refused").await), (0, 1));
    place.accept();
    patient.resume().await.expect("sent");
    assert_eq!(patient.result().await.expect("a result"), 10);
    counted.assert_once_each(2);
    assert_eq!(place.stored("refused").await, 0);
    second.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_goes_out_by_itself_when_the_cause_is_mended() {
    let (place, counted) = (Place::new(), Counted::default());
    let worker = worker(&place, &counted).await;
    place.refuse(|message| message.topic.as_str().ends_with(".tasks").then_some(ErrorKind::NotFound));
    let patient = place.process().await.client().workflow::<Patient>("p");
    patient.start((1, 5)).await.expect("started");
    tokio::time::sleep(seconds(3_600)).await;
    place.accept();
    // Longer than a stopped instance ever waits before it tries again.
    tokio::time::sleep(seconds(700)).await;
    assert_eq!(patient.result().await.expect("a result"), 5);
    counted.assert_once_each(1);
    worker.stop().await.expect("stopped");
}
