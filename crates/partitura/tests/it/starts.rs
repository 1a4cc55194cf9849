//! When tasks begin: not too late, and not too early.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use partitura::testing::TestEnv;
use partitura::{
    ClientError, Cx, Retry, StartPolicy, TaskContext, TaskError, Waiting, days, hours, millis, minutes, seconds,
};
use tokio::time::{Instant, sleep};

use crate::support::{Oops, soon};
use crate::troubled::{Troubled, Virtual, embedded};

#[partitura::service]
trait Bench {
    /// Takes `seconds` seconds, and gives its attempt; those before this one fail.
    async fn work(&self, seconds: u64, attempt: u32) -> Result<u32, Oops>;
}

#[derive(Debug, Default, Clone)]
struct Workers(Arc<AtomicU32>);

impl Bench for Workers {
    async fn work(&self, seconds: u64, attempt: u32) -> Result<u32, Oops> {
        self.0.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_secs(seconds)).await;
        let this = TaskContext::current().expect("inside of a task").attempt();
        if this < attempt { Err(Oops::Busy) } else { Ok(this) }
    }
}

/// Gives up on a task that no worker takes within a minute.
#[derive(Debug, Default)]
struct Impatient;

#[partitura::workflow]
impl Impatient {
    #[run]
    async fn run(cx: Cx<Self>, takes: u64) -> Result<u32, TaskError<Oops>> {
        cx.service::<BenchStub>().work(takes, 1).start_timeout(minutes(1)).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_no_worker_takes_in_time_fails_and_is_not_called_later() {
    let clock = Virtual::new();
    let partitura = Troubled::new(&embedded(&clock)).engine(&clock).await;
    let worker = partitura.worker().workflow::<Impatient>().start().await.expect("a worker");
    let impatient = partitura.client().workflow::<Impatient>("i");
    let began = Instant::now();
    impatient.start(1).await.expect("started");
    sleep(seconds(50)).await;
    let described = soon(impatient.describe()).await.expect("known");
    assert!(matches!(described.waiting[..], [Waiting::Task { attempt: None, unclaimed: true, .. }]), "{described:?}");
    let failed = soon(impatient.result()).await.expect_err("nobody took it");
    assert!(matches!(&failed, partitura::WorkflowError::Failed(TaskError::NotStarted)), "{failed}");
    assert!(failed.to_string().contains("no worker took the task"), "{failed}");
    assert!((minutes(1)..seconds(62)).contains(&began.elapsed()), "{:?}", began.elapsed());
    let workers = Workers::default();
    let late = partitura.worker().service(BenchService(workers.clone())).start().await.expect("a worker");
    sleep(minutes(5)).await;
    assert_eq!(workers.0.load(Ordering::SeqCst), 0);
    late.stop().await.expect("stopped");
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_began_in_time_may_take_longer() {
    let clock = Virtual::new();
    let partitura = Troubled::new(&embedded(&clock)).engine(&clock).await;
    let worker = partitura.worker().workflow::<Impatient>().start().await.expect("a worker");
    let impatient = partitura.client().workflow::<Impatient>("i");
    impatient.start(300).await.expect("started");
    sleep(seconds(50)).await;
    let workers = Workers::default();
    let service = partitura.worker().service(BenchService(workers.clone())).start().await.expect("a worker");
    sleep(seconds(60)).await;
    let described = soon(impatient.describe()).await.expect("known");
    assert!(
        matches!(described.waiting[..], [Waiting::Task { attempt: Some(1), unclaimed: false, .. }]),
        "{described:?}"
    );
    assert_eq!(tokio::time::timeout(minutes(10), impatient.result()).await.expect("soon").expect("a result"), 1);
    assert_eq!(workers.0.load(Ordering::SeqCst), 1);
    service.stop().await.expect("stopped");
    worker.stop().await.expect("stopped");
}

/// Its task is tried again after this many days, and whether it beats.
#[derive(Debug, Default)]
struct Patient;

#[partitura::workflow]
impl Patient {
    #[run]
    async fn run(cx: Cx<Self>, (wait, beats): (u64, bool)) -> Result<u32, TaskError<Oops>> {
        let task = cx.service::<BenchStub>().work(0, 2).retry(Retry::fixed(days(wait))).retry_errors();
        if beats { task.heartbeat_timeout(minutes(1)).await } else { task.await }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_beyond_the_horizon_of_the_broker_is_waited_for_in_stages() {
    let clock = Virtual::new();
    let partitura = Troubled::new(&embedded(&clock)).delay(days(10)).engine(&clock).await;
    let workers = Workers::default();
    let worker = partitura.worker().workflow::<Patient>().service(BenchService(workers.clone()));
    let worker = worker.start().await.expect("a worker");
    for beats in [false, true] {
        let patient = partitura.client().workflow::<Patient>(format!("p-{beats}"));
        let began = Instant::now();
        patient.start((35, beats)).await.expect("started");
        assert_eq!(patient.result().await.expect("a result"), 2);
        assert!((days(35)..days(35) + seconds(10)).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
    assert_eq!(workers.0.load(Ordering::SeqCst), 4);
    worker.stop().await.expect("stopped");
}

static RUNNING: AtomicU32 = AtomicU32::new(0);

/// Counts the steps that run.
struct Running;

impl Running {
    fn begin() -> Self {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Begins two steps that never end; drops one, and ends with the other.
#[derive(Debug, Default)]
struct Stepping;

#[partitura::workflow]
impl Stepping {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let endless = |name: &'static str| {
            cx.step(name, async {
                let _running = Running::begin();
                std::future::pending::<Result<(), Oops>>().await
            })
        };
        let _kept = endless("kept").start();
        partitura::select! {
            _ = endless("dropped") => {}
            slept = cx.sleep(seconds(10)) => slept?,
        }
        Ok(cx.sleep(seconds(10)).await?)
    }
}

#[tokio::test(start_paused = true)]
async fn the_code_of_a_step_that_nobody_awaits_is_dropped() {
    let clock = Virtual::new();
    let partitura = Troubled::new(&embedded(&clock)).engine(&clock).await;
    let worker = partitura.worker().workflow::<Stepping>().start().await.expect("a worker");
    let stepping = partitura.client().workflow::<Stepping>("s");
    stepping.start(()).await.expect("started");
    let running = async || {
        sleep(millis(100)).await;
        RUNNING.load(Ordering::SeqCst)
    };
    assert_eq!(running().await, 2);
    sleep(seconds(10)).await;
    assert_eq!(running().await, 1);
    soon(stepping.result()).await.expect("a result");
    assert_eq!(running().await, 0);
    worker.stop().await.expect("stopped");
}

/// Goes on in a new run every ten minutes.
#[derive(Debug, Default)]
struct Restless;

#[partitura::workflow]
impl Restless {
    #[run]
    async fn run(cx: Cx<Self>, rounds: u32) -> Result<u32, partitura::Cancelled> {
        cx.sleep(minutes(10)).await?;
        if rounds == 0 {
            return Ok(rounds);
        }
        cx.continue_as_new(rounds - 1).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_instance_is_that_of_all_its_runs_and_the_time_of_a_run_begins_anew() {
    let clock = Virtual::new();
    // A broker that cannot delay for so long at once.
    let partitura = Troubled::new(&embedded(&clock)).delay(minutes(7)).engine(&clock).await;
    let worker = partitura.worker().workflow::<Restless>().start().await.expect("a worker");
    let client = partitura.client();
    let (whole, each) = (client.workflow::<Restless>("whole"), client.workflow::<Restless>("each"));
    let began = Instant::now();
    whole.start(9).timeout(minutes(45)).await.expect("started");
    each.start(9).run_timeout(minutes(11)).await.expect("started");
    assert!(matches!(whole.result().await, Err(partitura::WorkflowError::TimedOut(_))));
    assert!((minutes(45)..minutes(46)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(each.result().await.expect("none of its runs is late"), 0);
    assert!((minutes(100)..minutes(102)).contains(&began.elapsed()), "{:?}", began.elapsed());
    worker.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_delayed_start_begins_at_its_time_and_not_before() {
    let env = TestEnv::new().workflow::<Restless>();
    let client = env.client().await;
    let (after, at) = (client.workflow::<Restless>("after"), client.workflow::<Restless>("at"));
    let began = env.now();
    after.start(0).after(days(3)).timeout(minutes(11)).await.expect("sent");
    let time = partitura::jiff::Timestamp::from_millisecond(began.as_millis() as i64).expect("a time") + hours(5);
    at.start(0).at(time).await.expect("sent");
    env.advance(hours(4)).await;
    // There is no instance yet.
    assert!(matches!(at.describe().await, Err(ClientError::NotFound { .. })));
    assert!(matches!(at.cancel("no").confirmed().await, Err(ClientError::NotFound { .. })));
    assert_eq!(at.result().await.expect("begun for all that"), 0);
    let begun = |summary: partitura::Summary| Duration::from_millis(summary.started_at - began.as_millis());
    let took = begun(at.describe().await.expect("known"));
    assert!((hours(5)..hours(5) + seconds(1)).contains(&took), "{took:?}");
    // Its time-out counts from its beginning. A call that is dropped leaves the next one to wait.
    let dropped = tokio::time::timeout(hours(1), after.result()).await;
    dropped.expect_err("it has not begun");
    assert_eq!(after.result().await.expect("a result"), 0);
    let took = begun(after.describe().await.expect("known"));
    assert!((days(3)..days(3) + seconds(1)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_start_beyond_the_horizon_of_the_broker_is_waited_for_in_stages() {
    let clock = Virtual::new();
    let partitura = Troubled::new(&embedded(&clock)).delay(days(10)).engine(&clock).await;
    let worker = partitura.worker().workflow::<Restless>().start().await.expect("a worker");
    let restless = partitura.client().workflow::<Restless>("far");
    let began = Instant::now();
    restless.start(0).after(days(35)).await.expect("sent");
    assert_eq!(restless.result().await.expect("a result"), 0);
    let took = began.elapsed() - minutes(10);
    assert!((days(35)..days(35) + seconds(10)).contains(&took), "{took:?}");
    worker.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_delayed_start_takes_what_it_finds_and_is_not_confirmed() {
    let env = TestEnv::new().workflow::<Restless>();
    let restless = env.client().await.workflow::<Restless>("r");
    let refused = restless.start(0).after(minutes(1)).confirmed().await;
    assert!(matches!(&refused, Err(ClientError::Refused(why)) if why.contains("delayed")), "{refused:?}");
    restless.start(7).after(minutes(1)).await.expect("sent");
    restless.start(8).policy(StartPolicy::Reject).after(minutes(1)).await.expect("sent, and refused silently");
    let now = restless.start(1).confirmed().await.expect("begun at once");
    env.advance(minutes(2)).await;
    assert_eq!(restless.describe().await.expect("known").run, now.run);
    assert_eq!(restless.result().await.expect("a result"), 0);
    // A time that has passed is now.
    let past = env.client().await.workflow::<Restless>("past");
    assert!(past.start(0).at(partitura::jiff::Timestamp::UNIX_EPOCH).confirmed().await.expect("begun").is_new);
}

#[partitura::service]
trait Busy {
    /// Is busy at its first attempts, each of which says for how many seconds; then gives its attempt.
    async fn serve(&self, waits: Vec<u64>) -> Result<u32, Oops>;
    #[task(retry = Retry::fixed(minutes(10)))]
    async fn serve_seldom(&self, waits: Vec<u64>) -> Result<u32, Oops>;
}

#[derive(Debug, Default, Clone)]
struct Server;

impl Busy for Server {
    async fn serve(&self, waits: Vec<u64>) -> Result<u32, Oops> {
        let task = TaskContext::current().expect("inside of a task");
        match waits.get(task.attempt() as usize - 1) {
            Some(wait) => {
                task.retry_after(seconds(*wait));
                Err(Oops::Busy)
            }
            None => Ok(task.attempt()),
        }
    }

    async fn serve_seldom(&self, waits: Vec<u64>) -> Result<u32, Oops> {
        self.serve(waits).await
    }
}

/// Calls what is busy.
#[derive(Debug, Default)]
struct Calls;

#[partitura::workflow]
impl Calls {
    #[run]
    async fn run(cx: Cx<Self>, (waits, seldom): (Vec<u64>, bool)) -> Result<u32, TaskError<Oops>> {
        let busy = cx.service::<BusyStub>();
        if seldom { busy.serve_seldom(waits).await } else { busy.serve(waits).await }
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_says_when_it_is_tried_again_and_the_policy_may_wait_for_longer() {
    let clock = Virtual::new();
    let partitura = Troubled::new(&embedded(&clock)).engine(&clock).await;
    let worker = partitura.worker().service(BusyService(Server)).workflow::<Calls>().start().await.expect("a worker");
    for (waits, seldom, takes) in [(vec![90, 300], false, minutes(6) + seconds(30)), (vec![90], true, minutes(10))] {
        let began = Instant::now();
        let calls = partitura.client().workflow::<Calls>(format!("{waits:?}"));
        let attempts = waits.len() as u32 + 1;
        calls.start((waits, seldom)).await.expect("started");
        assert_eq!(calls.result().await.expect("a result"), attempts);
        assert!((takes..takes + seconds(5)).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
    worker.stop().await.expect("stopped");
}
