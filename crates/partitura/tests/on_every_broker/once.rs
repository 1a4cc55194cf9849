//! Where nothing fails, nothing is done twice; and what nobody wants is not done any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use partitura::contract::Ordering;
use partitura::messaging::{DeadLetters, SubscriptionTopics};
use partitura::{
    Builder, Cx, Partitura, Retry, RunningWorker, Signal, TaskContext, Worker, join_all, millis, seconds, select,
};

use crate::stage::{Stage, forgetful};
use crate::support::{Oops, Three, Waits, eventually, soon};

#[partitura::service]
trait Crew {
    /// Takes `millis` milliseconds.
    async fn take(&self, millis: u64) -> Result<u64, Oops>;
    /// Fails each time.
    async fn fail(&self) -> Result<u64, Oops>;
}

/// Counts the calls of each task.
#[derive(Debug, Clone, Default)]
struct Counted(Arc<Mutex<BTreeMap<String, u32>>>);

impl Counted {
    fn count(&self) {
        let task = TaskContext::current().expect("inside of a task").idempotency_key();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default() += 1;
    }

    /// The numbers of calls.
    fn calls(&self) -> Vec<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }
}

impl Crew for Counted {
    async fn take(&self, millis: u64) -> Result<u64, Oops> {
        self.count();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(millis)
    }

    async fn fail(&self) -> Result<u64, Oops> {
        self.count();
        Err(Oops::Busy)
    }
}

/// Runs a number of tasks at once, each for a number of milliseconds.
#[derive(Debug, Default)]
struct Works;

#[partitura::workflow]
impl Works {
    #[run]
    async fn run(cx: Cx<Self>, (tasks, millis): (usize, u64)) -> Result<usize, Oops> {
        let hands = cx.service::<CrewStub>();
        let taken = join_all((0..tasks).map(|_| hands.take(millis))).await;
        Ok(taken.into_iter().collect::<Result<Vec<_>, _>>()?.len())
    }
}

/// The length of a long task. Seconds unless `PARTITURA_LONG_TASK` says how many milliseconds: what is swept, watched
/// or taken back after half a minute shows only with 40,000.
fn long() -> u64 {
    std::env::var("PARTITURA_LONG_TASK").ok().and_then(|millis| millis.parse().ok()).unwrap_or(2_500)
}

fn worker(partitura: &Partitura, counted: &Counted) -> Worker {
    let worker = partitura.worker().service(CrewService(counted.clone()));
    worker.workflow::<Works>().workflow::<Three>().workflow::<Waits>()
}

async fn running(partitura: &Partitura, counted: &Counted) -> RunningWorker {
    worker(partitura, counted).start().await.expect("a worker")
}

pub(crate) async fn eight_long_tasks_run_once_in_two_processes(stage: Stage) {
    let [one, other, client] = stage.processes(|settings| settings).await;
    let counted = Counted::default();
    let (first, second) = (running(&one, &counted).await, running(&other, &counted).await);
    let all: Vec<_> = (0..8).map(|number| client.client().workflow::<Works>(number.to_string())).collect();
    for works in &all {
        works.start((1, long())).await.expect("started");
    }
    for works in &all {
        assert_eq!(works.result().await.expect("a result"), 1);
    }
    assert_eq!(counted.calls(), [1; 8]);
    first.stop().await.expect("stopped");
    second.stop().await.expect("stopped");
}

pub(crate) async fn a_task_of_twice_the_length_runs_once_beside_other_workflows(stage: Stage) {
    let partitura = stage.application().await;
    let counted = Counted::default();
    let worker = running(&partitura, &counted).await;
    let works = partitura.client().workflow::<Works>("w");
    works.start((1, 2 * long())).await.expect("started");
    assert_eq!(works.result().await.expect("a result"), 1);
    assert_eq!(counted.calls(), [1]);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn tasks_of_three_minutes_run_once_though_a_delivery_may_be_held_for_one(stage: Stage) {
    let [one, other, client] = stage.processes(|settings| settings).await;
    let counted = Counted::default();
    let (first, second) = (running(&one, &counted).await, running(&other, &counted).await);
    let works = client.client().workflow::<Works>("w");
    works.start((3, 180_000)).await.expect("started");
    assert_eq!(works.result().await.expect("a result"), 3);
    assert_eq!(counted.calls(), [1; 3]);
    first.stop().await.expect("stopped");
    second.stop().await.expect("stopped");
}

/// Thirty-five workflows, which do nothing.
macro_rules! idle {
    ($($name:ident)*) => {
        $(
            #[derive(Debug, Default)]
            struct $name;

            #[partitura::workflow]
            impl $name {
                #[run]
                async fn run(_cx: Cx<Self>) -> Result<(), Oops> {
                    Ok(())
                }
            }
        )*

        fn with_idle_workflows(worker: Worker) -> Worker {
            worker$(.workflow::<$name>())*
        }
    };
}

idle!(
    A0 A1 A2 A3 A4 A5 A6 A7 A8 A9 B0 B1 B2 B3 B4 B5 B6 B7 B8 B9 C0 C1 C2 C3 C4 C5 C6 C7 C8 C9 D0 D1
);

fn patient(settings: Builder) -> Builder {
    settings.drain_within(seconds(20))
}

async fn runs_once_though_it_ends_in_the_drain(stage: Stage, with_others: fn(Worker) -> Worker) {
    let [one, other] = stage.processes(patient).await;
    let counted = Counted::default();
    let first = with_others(worker(&one, &counted)).start().await.expect("a worker");
    let works = other.client().workflow::<Works>("w");
    works.start((1, 2_500)).await.expect("started");
    eventually(|| async { (!counted.calls().is_empty()).then_some(()) }).await;
    first.stop().await.expect("stopped");
    let second = with_others(worker(&other, &counted)).start().await.expect("a worker");
    assert_eq!(soon(works.result()).await.expect("a result"), 1);
    // Whatever else was sent would be called by then.
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(counted.calls(), [1]);
    second.stop().await.expect("stopped");
}

pub(crate) async fn a_task_that_ends_while_its_worker_stops_runs_once(stage: Stage) {
    runs_once_though_it_ends_in_the_drain(stage, |worker| worker).await;
}

pub(crate) async fn a_task_that_ends_while_a_worker_of_35_workflows_stops_runs_once(stage: Stage) {
    runs_once_though_it_ends_in_the_drain(stage, with_idle_workflows).await;
}

static STEPS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default)]
struct Steps;

#[partitura::workflow]
impl Steps {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let run = cx.run_id().to_owned();
        let stepped = cx.step("count", async move {
            *STEPS.lock().unwrap_or_else(PoisonError::into_inner).entry(run).or_default() += 1;
            tokio::time::sleep(millis(50)).await;
            Ok::<_, Oops>(())
        });
        Ok(stepped.await?)
    }
}

pub(crate) async fn two_hundred_steps_run_once_with_one_instance_in_memory(stage: Stage) {
    let [partitura] = stage.processes(forgetful).await;
    let worker = partitura.worker().workflow::<Steps>().start().await.expect("a worker");
    let all: Vec<_> = (0..200).map(|number| partitura.client().workflow::<Steps>(number.to_string())).collect();
    for steps in &all {
        steps.start(()).await.expect("started");
        // Of no use to the instance, and has it read again while its step runs.
        steps.signal(Signal::to_channel("nothing", &())).await.expect("sent");
    }
    let mut runs = Vec::new();
    for steps in &all {
        soon(steps.result()).await.expect("a result");
        runs.push(soon(steps.describe()).await.expect("described").run);
    }
    let counts = STEPS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let own: Vec<u32> = runs.iter().map(|run| counts.get(run).copied().unwrap_or(0)).collect();
    assert_eq!(own, [1; 200]);
    worker.stop().await.expect("stopped");
}

/// A task that fails again and again loses against a timer.
#[derive(Debug, Default)]
struct Loses;

#[partitura::workflow]
impl Loses {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let hands = cx.service::<CrewStub>();
        select! {
            _ = hands.fail().retry(Retry::fixed(millis(300))).retry_errors() => {}
            slept = cx.sleep(seconds(5)) => slept?,
        }
        Ok(())
    }
}

pub(crate) async fn the_retries_of_what_lost_a_select_end(stage: Stage) {
    let partitura = stage.application().await;
    let counted = Counted::default();
    let worker = partitura.worker().service(CrewService(counted.clone())).workflow::<Loses>();
    let worker = worker.start().await.expect("a worker");
    let loses = partitura.client().workflow::<Loses>("l");
    loses.start(()).await.expect("started");
    soon(loses.result()).await.expect("a result");
    // One that was on its way may still be called.
    tokio::time::sleep(seconds(1)).await;
    let calls = counted.calls();
    assert!(calls.first().is_some_and(|calls| *calls > 1), "{calls:?}");
    tokio::time::sleep(seconds(4)).await;
    assert_eq!(counted.calls(), calls);
    worker.stop().await.expect("stopped");
}

/// A task fails for good, and with it the workflow.
#[derive(Debug, Default)]
struct Fails;

#[partitura::workflow]
impl Fails {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u64, Oops> {
        let fast = Retry::fixed(millis(10)).max_attempts(3);
        Ok(cx.service::<CrewStub>().fail().retry(fast).retry_errors().await?)
    }
}

pub(crate) async fn a_dead_letter_that_is_sent_again_does_nothing_for_a_workflow_that_has_ended(stage: Stage) {
    let (partitura, namespace) = stage.named_application().await;
    let counted = Counted::default();
    let worker = partitura.worker().service(CrewService(counted.clone())).workflow::<Fails>();
    let worker = worker.start().await.expect("a worker");
    let fails = partitura.client().workflow::<Fails>("f");
    fails.start(()).await.expect("started");
    soon(fails.result()).await.expect_err("it fails");
    assert_eq!(counted.calls(), [3]);
    let tasks = format!("{namespace}.service.Crew.tasks").parse().expect("a name");
    let source = SubscriptionTopics::new(tasks, "workers".parse().expect("a name"), Ordering::Shared);
    let letters = DeadLetters::new(partitura.broker().clone(), source).expect("dead letters");
    let found = soon(letters.list(10)).await.expect("letters");
    let [letter] = &found[..] else { panic!("{found:?}") };
    assert_eq!((letter.reason.as_str(), letter.subscription.as_str()), ("gave up after 3 attempts", "workers"));
    assert_eq!(soon(letters.redrive_all()).await.expect("sent").redriven, 1);
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(counted.calls(), [3]);
    assert_eq!(soon(letters.list(10)).await.expect("letters"), []);
    worker.stop().await.expect("stopped");
}

#[derive(Debug, Default)]
struct Watches;

#[partitura::workflow]
impl Watches {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u64, Oops> {
        Ok(cx.service::<CrewStub>().take(1).heartbeat_timeout(seconds(2)).await?)
    }
}

/// Beats without an end the first time that it is called.
#[derive(Debug, Clone, Default)]
struct Beating(Arc<Mutex<Vec<Instant>>>);

impl Beating {
    fn beats(&self) -> Vec<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn beat(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    }
}

impl Crew for Beating {
    async fn take(&self, millis: u64) -> Result<u64, Oops> {
        let is_first = self.beats().is_empty();
        self.beat();
        if !is_first {
            return Ok(millis);
        }
        loop {
            TaskContext::current().expect("inside of a task").heartbeat(&millis).expect("a number");
            self.beat();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn fail(&self) -> Result<u64, Oops> {
        Err(Oops::Busy)
    }
}

pub(crate) async fn a_task_that_beat_is_called_again_after_its_process_vanished(stage: Stage) {
    let [serving, conducting, client] = stage.processes(|settings| settings).await;
    let beating = Beating::default();
    let runner = conducting.worker().workflow::<Watches>().start().await.expect("a worker");
    let worker = serving.worker().service(CrewService(beating.clone())).start().await.expect("a worker");
    let watches = client.client().workflow::<Watches>("w");
    watches.start(()).await.expect("started");
    eventually(|| async { (beating.beats().len() > 5).then_some(()) }).await;
    drop((worker, serving));
    let last = *beating.beats().last().expect("it beat");
    let next = conducting.worker().service(CrewService(beating.clone())).start().await.expect("a worker");
    assert_eq!(soon(watches.result()).await.expect("a result"), 1);
    let again = *beating.beats().last().expect("it beat");
    println!("called again {:?} after the last heartbeat", again.duration_since(last));
    next.stop().await.expect("stopped");
    runner.stop().await.expect("stopped");
}
