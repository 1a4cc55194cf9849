//! Heartbeats: kept beside the history, never going back, and watched over by the owner of the instance.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use partitura::{Cx, Partitura, Retry, RunningWorker, TaskContext, TaskError, millis, minutes, seconds};
use partitura_broker::{Broker, ScanRange};
use partitura_embedded::Embedded;
use tokio::time::Instant;

use crate::support::{Oops, soon};
use crate::troubled::{Troubled, Virtual, embedded};

#[partitura::service]
trait Copying {
    /// Beats once a second, for `seconds` seconds.
    async fn copy(&self, seconds: u32) -> Result<u32, Oops>;
    /// Beats 5 in the first attempt and panics, beats 9 in the second and hangs, and says in the third run what it was
    /// told.
    async fn lose(&self) -> Result<u32, Oops>;
    /// Beats 4 and hangs in the first attempt; says in the next what it was told.
    async fn freeze(&self) -> Result<u32, Oops>;
}

#[derive(Debug, Clone, Default)]
struct Copies {
    calls: Arc<AtomicU32>,
    /// The attempts and when they began.
    begun: Arc<Mutex<Vec<(u32, Instant)>>>,
}

impl Copies {
    fn begin(&self) -> (TaskContext, u32) {
        let task = TaskContext::current().expect("inside of a task");
        let attempt = task.attempt();
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push((attempt, Instant::now()));
        (task, self.calls.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn begun(&self) -> Vec<(u32, Instant)> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Copying for Copies {
    async fn copy(&self, seconds: u32) -> Result<u32, Oops> {
        let (task, _) = self.begin();
        for done in 0..seconds {
            task.heartbeat(&done).expect("a number");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(seconds)
    }

    async fn lose(&self) -> Result<u32, Oops> {
        let (task, call) = self.begin();
        match call {
            1 => {
                task.heartbeat(&5).expect("a number");
                tokio::time::sleep(millis(100)).await;
                // Without the noise of the hook.
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            2 => {
                assert_eq!(task.last_heartbeat::<u32>().expect("a number"), Some(5));
                task.heartbeat(&9).expect("a number");
                std::future::pending().await
            }
            _ => Ok(task.last_heartbeat().expect("a number").unwrap_or(0)),
        }
    }

    async fn freeze(&self) -> Result<u32, Oops> {
        let (task, _) = self.begin();
        if task.attempt() == 1 {
            task.heartbeat(&4).expect("a number");
            return std::future::pending().await;
        }
        Ok(task.last_heartbeat().expect("a number").unwrap_or(0))
    }
}

#[derive(Debug, Default)]
struct Copyist;

#[partitura::workflow]
impl Copyist {
    #[run]
    async fn run(cx: Cx<Self>, what: String) -> Result<u32, Oops> {
        let copying = cx.service::<CopyingStub>();
        let fast = || Retry::fixed(millis(10)).max_attempts(3);
        Ok(match what.as_str() {
            "copy" => copying.copy(3_600).heartbeat_timeout(seconds(10)).await?,
            "lose" => copying.lose().retry(fast()).await?,
            "freeze" => copying.freeze().retry(fast()).heartbeat_timeout(seconds(2)).await?,
            _ => match copying.freeze().retry(Retry::none()).heartbeat_timeout(seconds(2)).await {
                Err(TaskError::WorkerLost) => 1,
                other => return Err(Oops::Task(format!("{other:?}"))),
            },
        })
    }
}

async fn serve(partitura: &Partitura, copies: &Copies) -> RunningWorker {
    let worker = partitura.worker().service(CopyingService(copies.clone())).concurrency(NonZeroUsize::MIN);
    worker.start().await.expect("a worker")
}

/// How many heartbeats are kept.
async fn kept(broker: &Embedded) -> usize {
    let transactions = broker.transactions().expect("it keeps state");
    transactions.scan(ScanRange::prefix("heartbeats", ""), 100).await.expect("entries").len()
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_not_part_of_the_history() {
    let (clock, copies) = (Virtual::new(), Copies::default());
    let broker = embedded(&clock);
    let partitura = Troubled::new(&broker).engine(&clock).await;
    let worker = partitura.worker().service(CopyingService(copies.clone())).workflow::<Copyist>();
    let worker = worker.start().await.expect("a worker");
    let copy = partitura.client().workflow::<Copyist>("c");
    copy.start("copy".into()).await.expect("started");
    tokio::time::sleep(minutes(30)).await;
    let history = copy.history().await.expect("a history");
    assert_eq!((history.len(), kept(&broker).await), (2, 1), "{history:?}");
    assert_eq!(copy.result().await.expect("a result"), 3_600);
    assert_eq!((copies.begun().len(), kept(&broker).await), (1, 0));
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn progress_never_goes_back() {
    let (clock, copies) = (Virtual::new(), Copies::default());
    let partitura = Troubled::new(&embedded(&clock)).engine(&clock).await;
    let conducting = partitura.worker().workflow::<Copyist>().start().await.expect("a worker");
    let lost = serve(&partitura, &copies).await;
    let lose = partitura.client().workflow::<Copyist>("l");
    lose.start("lose".into()).await.expect("started");
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(copies.begun().len(), 2);
    drop(lost);
    let next = serve(&partitura, &copies).await;
    assert_eq!(soon(lose.result()).await.expect("a result"), 9);
    let attempts: Vec<u32> = copies.begun().iter().map(|(attempt, _)| *attempt).collect();
    assert_eq!(attempts, [1, 2, 2]);
    next.stop().await.expect("stopped");
    conducting.stop().await.expect("stopped");
}

/// The process that has the task falls silent, and the broker does not notice.
async fn is_replaced_though_its_process_is_silent(transactions: bool) {
    let (clock, copies) = (Virtual::new(), Copies::default());
    let broker = embedded(&clock);
    let sound = || if transactions { Troubled::new(&broker) } else { Troubled::new(&broker).without_transactions() };
    let partitura = sound().engine(&clock).await;
    let conducting = partitura.worker().workflow::<Copyist>().start().await.expect("a worker");
    let silent = sound();
    let troubles = silent.troubles.clone();
    let silent = serve(&silent.engine(&clock).await, &copies).await;
    let freeze = partitura.client().workflow::<Copyist>("f");
    freeze.start("freeze".into()).await.expect("started");
    tokio::time::sleep(seconds(1)).await;
    troubles.cut_off();
    let next = serve(&partitura, &copies).await;
    assert_eq!(soon(freeze.result()).await.expect("a result"), 4);
    let [(1, first), (2, second)] = copies.begun()[..] else { panic!("{:?}", copies.begun()) };
    let took = second.duration_since(first);
    assert!(took >= seconds(2) && took < seconds(4), "{took:?}");
    // The broker gives up on the silent process at last: what it had is not run again.
    drop(silent);
    tokio::time::sleep(minutes(1)).await;
    assert_eq!((copies.begun().len(), kept(&broker).await), (2, 0));
    next.stop().await.expect("stopped");
    conducting.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_process_falls_silent_is_tried_again_within_its_heartbeat_timeout() {
    is_replaced_though_its_process_is_silent(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_process_falls_silent_is_tried_again_with_a_separate_store_and_outbox() {
    is_replaced_though_its_process_is_silent(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_task_without_another_attempt_fails_as_lost() {
    let (clock, copies) = (Virtual::new(), Copies::default());
    let broker = embedded(&clock);
    let partitura = Troubled::new(&broker).engine(&clock).await;
    let conducting = partitura.worker().workflow::<Copyist>().start().await.expect("a worker");
    let silent = Troubled::new(&broker);
    let troubles = silent.troubles.clone();
    let silent = serve(&silent.engine(&clock).await, &copies).await;
    let once = partitura.client().workflow::<Copyist>("o");
    once.start("once".into()).await.expect("started");
    tokio::time::sleep(seconds(1)).await;
    troubles.cut_off();
    assert_eq!(soon(once.result()).await.expect("a result"), 1);
    drop(silent);
    assert_eq!(copies.begun().len(), 1);
    conducting.stop().await.expect("stopped");
}
