//! How often tasks are called: once, unless something explains another call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use partitura::messaging::{DeadLetters, SubscriptionTopics};
use partitura::{Cx, Partitura, Retry, StartPolicy, TaskContext, TaskError, WorkflowError, minutes, seconds, select};
use partitura_broker::Ordering as Order;
use tokio::time::Instant;

use crate::support::{Oops, soon};
use crate::troubled::{Troubled, Troubles, Virtual, embedded};

#[partitura::service]
trait Deeds {
    /// Returns; the broker goes away before the result is sent.
    async fn charge(&self) -> Result<u32, Oops>;
    /// Fails each time.
    #[task(retry = Retry::exponential().max_attempts(3), retry_errors)]
    async fn fail(&self, with: usize) -> Result<u32, Oops>;
    /// Panics each time.
    async fn panic(&self) -> Result<u32, Oops>;
    /// Waits until it is cancelled, and does not beat. Fails then.
    async fn wait(&self) -> Result<u32, Oops>;
    /// Waits until its worker is being stopped.
    async fn until_drained(&self) -> Result<u32, Oops>;
}

/// The implementation of [`Deeds`], with what tests look at.
#[derive(Debug, Clone, Default)]
struct Done {
    calls: Arc<AtomicU32>,
    cancelled: Arc<Mutex<HashMap<String, Instant>>>,
    troubles: Option<Arc<Troubles>>,
}

impl Done {
    fn called(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    fn cancelled_at(&self, id: &str) -> Option<Instant> {
        self.cancelled.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }
}

impl Deeds for Done {
    async fn charge(&self) -> Result<u32, Oops> {
        self.called();
        if let Some(troubles) = &self.troubles {
            troubles.set_away(true);
        }
        Ok(7)
    }

    async fn fail(&self, with: usize) -> Result<u32, Oops> {
        self.called();
        Err(Oops::No("x".repeat(with)))
    }

    async fn panic(&self) -> Result<u32, Oops> {
        self.called();
        // Without the noise of the hook.
        std::panic::resume_unwind(Box::new("on purpose"));
    }

    async fn wait(&self) -> Result<u32, Oops> {
        self.called();
        let task = TaskContext::current().expect("inside of a task");
        assert!(!task.is_cancelled());
        task.cancelled().await;
        assert!(task.is_cancelled());
        let (id, now) = (task.workflow_id().to_owned(), Instant::now());
        self.cancelled.lock().unwrap_or_else(PoisonError::into_inner).insert(id, now);
        std::panic::resume_unwind(Box::new("cancelled"));
    }

    async fn until_drained(&self) -> Result<u32, Oops> {
        self.called();
        let task = TaskContext::current().expect("inside of a task");
        assert!(!task.is_draining());
        task.draining().await;
        assert!(task.is_draining());
        Ok(9)
    }
}

/// The use that a workflow here makes of the service.
#[derive(Debug, Default)]
struct Does;

#[partitura::workflow]
impl Does {
    #[run]
    async fn run(cx: Cx<Self>, what: String) -> Result<u32, Oops> {
        let deeds = cx.service::<DeedsStub>();
        match what.as_str() {
            "charge" => Ok(deeds.charge().await?),
            "fail" => Ok(deeds.fail(5).await?),
            "fail at length" => match deeds.fail(16_300).await {
                Err(TaskError::Failed(Oops::No(text))) => Ok(u32::try_from(text.len()).unwrap_or(0)),
                other => Err(Oops::Task(format!("{other:?}"))),
            },
            "drain" => Ok(deeds.until_drained().await?),
            "drop" => {
                select! {
                    done = deeds.wait() => return Ok(done?),
                    slept = cx.sleep(seconds(10)) => slept?,
                }
                cx.sleep(minutes(10)).await?;
                Ok(1)
            }
            "end" => {
                let wait = deeds.wait().start();
                cx.sleep(seconds(10)).await?;
                drop(wait);
                Ok(2)
            }
            "retry" => {
                let panics = deeds.panic().start();
                cx.sleep(seconds(2)).await?;
                drop(panics);
                Ok(3)
            }
            _ => Ok(deeds.wait().await?),
        }
    }
}

async fn engine(troubled: Troubled, clock: &Arc<Virtual>, done: &Done) -> (Partitura, partitura::RunningWorker) {
    let partitura = troubled.engine(clock).await;
    let worker = partitura.worker().service(DeedsService(done.clone())).workflow::<Does>();
    let worker = worker.start().await.expect("a worker");
    (partitura, worker)
}

async fn is_called_once_though_the_broker_is_away(transactions: bool) {
    let clock = Virtual::new();
    let inner = embedded(&clock);
    let mut broker = Troubled::new(&inner);
    if !transactions {
        broker = broker.without_transactions();
    }
    let troubles = broker.troubles.clone();
    let done = Done { troubles: Some(troubles.clone()), ..Done::default() };
    let (_partitura, worker) = engine(broker, &clock, &done).await;
    // The client's connection is another one.
    let client = Troubled::new(&inner).engine(&clock).await.client();
    let charges = client.workflow::<Does>("charge");
    charges.start("charge".into()).await.expect("started");
    let (result, ()) = tokio::join!(charges.result(), async {
        tokio::time::sleep(minutes(10)).await;
        troubles.set_away(false);
    });
    assert_eq!((result.expect("a result"), done.calls()), (7, 1));
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_method_that_returned_is_not_called_again_though_the_broker_is_away() {
    is_called_once_though_the_broker_is_away(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_method_that_returned_is_not_called_again_though_a_broker_without_transactions_is_away() {
    is_called_once_though_the_broker_is_away(false).await;
}

#[tokio::test(start_paused = true)]
async fn retries_end_with_the_workflow() {
    let (clock, done) = (Virtual::new(), Done::default());
    let (partitura, worker) = engine(Troubled::new(&embedded(&clock)), &clock, &done).await;
    let does = partitura.client().workflow::<Does>("retry");
    does.start("retry".into()).await.expect("started");
    assert_eq!(does.result().await.expect("a result"), 3);
    let calls = done.calls();
    assert!((1..=3).contains(&calls), "{calls}");
    tokio::time::sleep(minutes(10)).await;
    assert_eq!(done.calls(), calls);
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_runs_is_told_when_nobody_wants_it_any_more() {
    let (clock, done) = (Virtual::new(), Done::default());
    let (partitura, worker) = engine(Troubled::new(&embedded(&clock)), &clock, &done).await;
    let client = partitura.client();
    let ways = ["drop", "end", "cancel", "terminate", "replace"];
    for way in ways {
        client.workflow::<Does>(way).start(way.into()).await.expect("started");
    }
    tokio::time::sleep(seconds(10)).await;
    let asked = Instant::now();
    client.workflow::<Does>("cancel").cancel("enough").await.expect("sent");
    client.workflow::<Does>("terminate").terminate("enough").await.expect("sent");
    let replacing = client.workflow::<Does>("replace");
    replacing.start("fail".into()).policy(StartPolicy::Replace).await.expect("started");
    tokio::time::sleep(seconds(5)).await;
    for way in ways {
        let told = done.cancelled_at(way).unwrap_or_else(|| panic!("{way}: it was not told"));
        assert!(told.duration_since(asked) < seconds(5), "{way}");
    }
    tokio::time::sleep(minutes(5)).await;
    // One call of each, none of which was tried again, and three of the workflow that replaced another.
    assert_eq!(done.calls(), 5 + 3);
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_sent_again_does_nothing_for_a_workflow_that_does_not_want_it() {
    let (clock, done) = (Virtual::new(), Done::default());
    let (partitura, worker) = engine(Troubled::new(&embedded(&clock)), &clock, &done).await;
    let fails = partitura.client().workflow::<Does>("fail");
    fails.start("fail".into()).await.expect("started");
    fails.result().await.expect_err("it fails");
    assert_eq!(done.calls(), 3);
    let source = SubscriptionTopics::new(
        "service.Deeds.tasks".parse().expect("a name"),
        "workers".parse().expect("a name"),
        Order::Shared,
    );
    let letters = DeadLetters::new(partitura.broker().clone(), source).expect("dead letters");
    let found = letters.list(10).await.expect("letters");
    let [letter] = &found[..] else { panic!("{found:?}") };
    assert_eq!((letter.reason.as_str(), letter.subscription.as_str()), ("gave up after 3 attempts", "workers"));
    assert_eq!((letter.attempts, letter.error.as_deref()), (3, Some("no: xxxxx")));
    assert_eq!(letters.redrive_all().await.expect("sent").redriven, 1);
    tokio::time::sleep(minutes(5)).await;
    assert_eq!((done.calls(), letters.list(10).await.expect("letters")), (3, vec![]));
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_long_error_arrives_typed_and_its_dead_letter_is_kept() {
    let (clock, done) = (Virtual::new(), Done::default());
    let (partitura, worker) = engine(Troubled::new(&embedded(&clock)), &clock, &done).await;
    let fails = partitura.client().workflow::<Does>("fail");
    fails.start("fail at length".into()).await.expect("started");
    assert_eq!(fails.result().await.expect("a result"), 16_300);
    let tasks = "service.Deeds.tasks".parse().expect("a name");
    let source = SubscriptionTopics::new(tasks, "workers".parse().expect("a name"), Order::Shared);
    let letters = DeadLetters::new(partitura.broker().clone(), source).expect("dead letters");
    let found = letters.list(10).await.expect("letters");
    assert!(matches!(&found[..], [letter] if letter.error.as_ref().is_some_and(|error| error.ends_with("x…"))));
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_task_learns_that_its_worker_is_being_stopped() {
    let (clock, done) = (Virtual::new(), Done::default());
    let broker = embedded(&clock);
    let (_, worker) = engine(Troubled::new(&broker), &clock, &done).await;
    let other = Troubled::new(&broker).engine(&clock).await;
    let drains = other.client().workflow::<Does>("drain");
    drains.start("drain".into()).await.expect("started");
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(done.calls(), 1);
    let asked = Instant::now();
    worker.stop().await.expect("stopped");
    assert!(asked.elapsed() < seconds(5), "{:?}", asked.elapsed());
    let conducting = other.worker().workflow::<Does>().start().await.expect("a worker");
    assert_eq!((soon(drains.result()).await.expect("a result"), done.calls()), (9, 1));
    conducting.stop().await.expect("stopped");
}

/// The service as an older build of the program knows it.
mod older {
    use crate::support::Oops;

    #[partitura::service(name = "Deeds")]
    pub(super) trait Deeds {
        async fn charge(&self) -> Result<u32, Oops>;
        /// It takes a number that newer builds do not send.
        async fn panic(&self, times: u32) -> Result<u32, Oops>;
    }

    #[derive(Debug, Clone)]
    pub(super) struct Old;

    impl Deeds for Old {
        async fn charge(&self) -> Result<u32, Oops> {
            Ok(1)
        }

        async fn panic(&self, times: u32) -> Result<u32, Oops> {
            Ok(times)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_build_does_not_know_is_left_to_others_for_a_while() {
    let (clock, done) = (Virtual::new(), Done::default());
    let broker = embedded(&clock);
    let partitura = Troubled::new(&broker).without_transactions().engine(&clock).await;
    let old = partitura.worker().service(older::DeedsService(older::Old)).workflow::<Does>().build_id("old-1");
    let old = old.start().await.expect("a worker");
    let client = partitura.client();
    let (method, argument) = (client.workflow::<Does>("fail"), client.workflow::<Does>("retry"));
    method.start("fail".into()).await.expect("started");
    argument.start("retry".into()).await.expect("started");
    assert_eq!(argument.result().await.expect("a result"), 3);
    tokio::time::sleep(minutes(1)).await;
    assert_eq!(done.calls(), 0);
    // The new build comes, and the old one stays.
    let new = Troubled::new(&broker).without_transactions().engine(&clock).await;
    let new = new.worker().service(DeedsService(done.clone())).start().await.expect("a worker");
    match method.result().await {
        Err(WorkflowError::Failed(Oops::Task(text))) => assert_eq!(text, "no: xxxxx"),
        other => panic!("{other:?}"),
    }
    assert_eq!(done.calls(), 3);
    new.stop().await.expect("stopped");
    // Nobody else comes.
    let alone = client.workflow::<Does>("alone");
    let asked = Instant::now();
    alone.start("fail".into()).await.expect("started");
    match alone.result().await {
        Err(WorkflowError::Failed(Oops::Task(text))) => {
            assert!(text.contains("no worker knew it for 300s") && text.contains("old-1"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(asked.elapsed() >= minutes(5) && asked.elapsed() < minutes(6), "{:?}", asked.elapsed());
    old.stop().await.expect("stopped");
}
