//! Instances are repaired by hand, without their Rust types.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use partitura::history::EventKind;
use partitura::{
    Cancelled, ClientError, Cx, InstanceHandle, Partitura, ReceiveError, RunningWorker, Status, StatusKind, TaskError,
    WorkflowError, millis, seconds,
};
use tokio::time::sleep;

use crate::support::{Waits, WaitsSignal, soon};
use crate::troubled::{Virtual, embedded};

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("the shop is closed")]
struct Closed;

#[partitura::service]
trait Shop {
    /// Refused while the shop is closed.
    async fn buy(&self, what: String) -> Result<String, Closed>;
    /// Never returns by itself.
    async fn wrap(&self, what: String) -> Result<String, Closed>;
}

#[derive(Debug, Default, Clone)]
struct Kiosk {
    is_open: Arc<AtomicBool>,
    bought: Arc<AtomicU32>,
}

impl Shop for Kiosk {
    async fn buy(&self, what: String) -> Result<String, Closed> {
        self.bought.fetch_add(1, Ordering::SeqCst);
        if self.is_open.load(Ordering::SeqCst) { Ok(what + "!") } else { Err(Closed) }
    }

    async fn wrap(&self, _what: String) -> Result<String, Closed> {
        std::future::pending().await
    }
}

/// Is told what to buy, buys it twice, and waits a moment before each.
#[derive(Debug, Default)]
struct Buys;

#[partitura::workflow]
impl Buys {
    #[run]
    async fn run(cx: Cx<Self>, wraps: bool) -> Result<String, TaskError<Closed>> {
        let shop = cx.service::<ShopStub>();
        let what = cx.channel::<String>("what").recv().await.map_err(|_: ReceiveError| Cancelled)?;
        let what = shop.buy(what).await?;
        cx.sleep(seconds(20)).await?;
        if wraps { shop.wrap(what).await } else { shop.buy(what).await }
    }
}

struct Stage {
    partitura: Partitura,
    kiosk: Kiosk,
    _worker: RunningWorker,
}

impl Stage {
    async fn new() -> Self {
        let clock = Virtual::new();
        let partitura = Partitura::on(embedded(&clock)).clock(clock).partitions(2).await.expect("an engine");
        let kiosk = Kiosk::default();
        let worker = partitura.worker().service(ShopService(kiosk.clone())).workflow::<Buys>().workflow::<Waits>();
        Self { _worker: worker.start().await.expect("a worker"), partitura, kiosk }
    }

    fn open(&self, is_open: bool) {
        self.kiosk.is_open.store(is_open, Ordering::SeqCst);
    }

    async fn start(&self, id: &str, wraps: bool) -> InstanceHandle {
        let client = self.partitura.client();
        soon(client.workflow::<Buys>(id).start(wraps).confirmed()).await.expect("started");
        let handle = client.instance("Buys", id);
        soon(handle.signal("what", &"tea").confirmed().into_future()).await.expect("recorded");
        handle
    }

    async fn result(&self, id: &str) -> Result<String, WorkflowError<TaskError<Closed>>> {
        soon(self.partitura.client().workflow::<Buys>(id).result()).await
    }
}

/// Asks until the answer is there. Time goes on between.
async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1_000 {
        match ask().await {
            Some(answer) => return answer,
            None => sleep(millis(100)).await,
        }
    }
    panic!("it hangs");
}

/// Waits until the instance stands there.
async fn stands(handle: &InstanceHandle, status: StatusKind) {
    eventually(async || (handle.summary().await.ok()?.status.kind() == status).then_some(())).await;
}

/// The number of the first event of this kind.
async fn number(handle: &InstanceHandle, is: impl Fn(&EventKind) -> bool) -> usize {
    eventually(async || {
        let page = handle.history(0, usize::MAX).await.expect("a history");
        page.events.iter().position(|event| is(&event.kind))
    })
    .await
}

async fn said(handle: &InstanceHandle) -> Vec<String> {
    let page = handle.history(0, usize::MAX).await.expect("a history");
    page.events.iter().map(|event| event.kind.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_comes_for_a_paused_instance_is_kept_until_it_is_resumed() {
    let stage = Stage::new().await;
    let client = stage.partitura.client();
    let (typed, waits) = (client.workflow::<Waits>("w"), client.instance("Waits", "w"));
    soon(typed.start(()).confirmed()).await.expect("started");
    soon(waits.pause("a look at it").confirmed().into_future()).await.expect("paused");
    assert_eq!(waits.summary().await.expect("known").status, Status::Paused { reason: "a look at it".into() });
    let signal = typed.signal(WaitsSignal::release("now".into())).confirmed();
    soon(signal.into_future()).await.expect("recorded");
    assert!(soon(typed.query(crate::support::WaitsQuery::is_released())).await.is_err(), "no code runs");
    // It does not go on by itself.
    sleep(seconds(3_600)).await;
    assert_eq!(soon(typed.describe()).await.expect("known").status.name(), "paused");
    soon(waits.resume().because("all is well").confirmed().into_future()).await.expect("resumed");
    assert_eq!(soon(typed.result()).await.expect("a result"), "now");
    let said = said(&waits).await;
    for event in ["WorkflowPaused (a look at it)", "Intervened: resume (all is well)"] {
        assert!(said.iter().any(|said| said == event), "{said:?}");
    }
    assert!(matches!(soon(waits.pause("late").confirmed().into_future()).await, Err(ClientError::Ended { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_timer_and_a_cancellation_of_a_paused_instance_take_effect_when_it_is_resumed() {
    let stage = Stage::new().await;
    stage.open(true);
    let buys = stage.start("b", false).await;
    number(&buys, |kind| matches!(kind, EventKind::TimerStarted { .. })).await;
    soon(buys.pause("closed").confirmed().into_future()).await.expect("paused");
    number(&buys, |kind| matches!(kind, EventKind::TimerFired { .. })).await;
    sleep(seconds(600)).await;
    assert_eq!(stage.kiosk.bought.load(Ordering::SeqCst), 1);
    soon(buys.resume().confirmed().into_future()).await.expect("resumed");
    assert_eq!(stage.result("b").await.expect("a result"), "tea!!");
    let other = stage.start("c", false).await;
    soon(other.pause("closed").confirmed().into_future()).await.expect("paused");
    soon(other.cancel("enough").confirmed().into_future()).await.expect("recorded");
    assert_eq!(other.summary().await.expect("known").status.name(), "paused");
    soon(other.resume().confirmed().into_future()).await.expect("resumed");
    assert!(matches!(stage.result("c").await, Err(WorkflowError::Cancelled { .. })));
    let third = stage.start("d", false).await;
    soon(third.pause("closed").confirmed().into_future()).await.expect("paused");
    soon(third.terminate("enough").confirmed().into_future()).await.expect("ended");
    assert!(matches!(stage.result("d").await, Err(WorkflowError::Terminated(_))));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_failed_for_good_runs_again_and_the_workflow_goes_on() {
    let stage = Stage::new().await;
    let buys = stage.start("b", false).await;
    assert!(matches!(stage.result("b").await, Err(WorkflowError::Failed(TaskError::Failed(Closed)))));
    stands(&buys, StatusKind::Failed).await;
    let failed = buys.summary().await.expect("known").run;
    stage.open(true);
    soon(buys.retry_task(None, "the shop is open")).await.expect("retried");
    assert_eq!(stage.result("b").await.expect("a result"), "tea!!");
    stands(&buys, StatusKind::Completed).await;
    let summary = buys.summary().await.expect("known");
    assert_eq!((summary.first_run.as_deref(), buys.runs().await.expect("runs").len()), (Some(&*failed), 2));
    assert!(said(&buys).await.contains(&"Intervened: retry task 1 (the shop is open)".to_owned()));
    assert!(matches!(soon(buys.retry_task(None, "again")).await, Err(ClientError::Refused(_))), "none has failed");
}

#[tokio::test(start_paused = true)]
async fn a_task_is_skipped_that_is_open_or_has_failed() {
    let stage = Stage::new().await;
    let failed = stage.start("failed", false).await;
    stands(&failed, StatusKind::Failed).await;
    soon(failed.skip_task(1, &"coffee", "there is some left")).await.expect("skipped");
    stage.open(true);
    assert_eq!(stage.result("failed").await.expect("a result"), "coffee!");
    let open = stage.start("open", true).await;
    let is_wrapped = |kind: &EventKind| matches!(kind, EventKind::TaskScheduled { method, .. } if method == "wrap");
    number(&open, is_wrapped).await;
    soon(open.skip_task(3, &"as it is", "no paper")).await.expect("skipped");
    assert_eq!(stage.result("open").await.expect("a result"), "as it is");
    assert!(said(&open).await.contains(&"Intervened: skip task 3 (no paper)".to_owned()));
    stands(&open, StatusKind::Completed).await;
    soon(open.skip_task(3, &"", "again")).await.expect_err("it has ended");
}

#[tokio::test(start_paused = true)]
async fn an_instance_goes_on_from_an_earlier_event() {
    let stage = Stage::new().await;
    stage.open(true);
    let buys = stage.start("b", true).await;
    let result = tokio::spawn({
        let typed = stage.partitura.client().workflow::<Buys>("b");
        async move { typed.result().await }
    });
    let scheduled = |kind: &EventKind| matches!(kind, EventKind::TaskScheduled { method, .. } if method == "wrap");
    number(&buys, scheduled).await;
    let before = buys.summary().await.expect("known");
    // To before the first purchase: the signal that came then is given to the new run again.
    let at = number(&buys, |kind| matches!(kind, EventKind::SignalReceived { .. })).await;
    let run = soon(buys.reset(at, "bought too early")).await.expect("reset");
    let after = buys.summary().await.expect("known");
    assert_eq!((&after.run, after.started_at), (&run, before.started_at));
    assert_eq!(after.first_run.as_deref(), Some(&*before.run));
    number(&buys, scheduled).await;
    assert_eq!(stage.kiosk.bought.load(Ordering::SeqCst), 2);
    // To while the timer runs, after the fact: it keeps its moment, and is over.
    let at = number(&buys, |kind| matches!(kind, EventKind::TimerFired { .. })).await;
    soon(buys.reset(at, "once more")).await.expect("reset");
    number(&buys, scheduled).await;
    assert_eq!(stage.kiosk.bought.load(Ordering::SeqCst), 2);
    soon(buys.skip_task(3, &"done", "enough")).await.expect("skipped");
    assert_eq!(soon(result).await.expect("no panic").expect("a result"), "done");
    stands(&buys, StatusKind::Completed).await;
    let total = buys.history(0, 1).await.expect("a history").total;
    for events in [0, total, total + 1] {
        assert!(matches!(soon(buys.reset(events, "no")).await, Err(ClientError::Refused(_))), "{events}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fork_goes_on_beside_its_instance() {
    let stage = Stage::new().await;
    stage.open(true);
    let buys = stage.start("b", false).await;
    assert_eq!(stage.result("b").await.expect("a result"), "tea!!");
    stands(&buys, StatusKind::Completed).await;
    let at = number(&buys, |kind| matches!(kind, EventKind::TimerStarted { .. })).await;
    let before = said(&buys).await;
    let fork = soon(buys.fork("f", at, "a second one")).await.expect("forked");
    assert_eq!(stage.result("f").await.expect("a result"), "tea!!");
    assert_eq!(stage.kiosk.bought.load(Ordering::SeqCst), 3);
    assert_eq!(said(&buys).await, before);
    assert!(said(&fork).await.contains(&format!("Intervened: fork of b, event {at} (a second one)")));
    assert!(matches!(soon(buys.fork("f", at, "again")).await, Err(ClientError::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn many_instances_are_acted_on_by_filter() {
    let stage = Stage::new().await;
    let client = stage.partitura.client();
    for id in 0..150 {
        let waits = client.workflow::<Waits>(format!("w{id}"));
        soon(waits.start(()).tag(if id < 120 { "many" } else { "few" }).confirmed()).await.expect("started");
    }
    let many = client.instances().tag("many");
    let dry = soon(many.terminate("enough").dry_run().into_future()).await.expect("found");
    assert_eq!((dry.found, dry.done, dry.named.len()), (120, 0, 100));
    assert_eq!(many.clone().status(StatusKind::Running).count(1_000).await.expect("counted").counted, 120);
    let paused = soon(many.pause("a look").into_future()).await.expect("paused");
    assert_eq!((paused.found, paused.done), (120, 120));
    assert_eq!(client.instances().status(StatusKind::Paused).count(1_000).await.expect("counted").counted, 120);
    let (told, tells) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let seen = (told.clone(), tells.clone());
    let some = many.terminate("enough").at_most(110).on_progress(move |so_far| {
        seen.0.store(u32::try_from(so_far.done).expect("few"), Ordering::SeqCst);
        seen.1.fetch_add(1, Ordering::SeqCst);
    });
    let some = soon(some.into_future()).await.expect("ended");
    assert_eq!((some.done, told.load(Ordering::SeqCst), tells.load(Ordering::SeqCst)), (110, 110, 2));
    assert_eq!(soon(many.resume("go on").into_future()).await.expect("resumed").done, 10);
    assert_eq!(soon(many.cancel("enough").into_future()).await.expect("cancelled").done, 10);
    eventually(async || {
        (many.clone().status(StatusKind::Cancelled).count(1_000).await.ok()?.counted == 10).then_some(())
    })
    .await;
    assert_eq!(soon(client.instances().delete().into_future()).await.expect("deleted").done, 120);
    assert_eq!(client.instances().count(1_000).await.expect("counted").counted, 30);
}

#[tokio::test(start_paused = true)]
async fn all_that_failed_is_retried_by_filter() {
    let stage = Stage::new().await;
    for id in ["a", "b", "c"] {
        let buys = stage.start(id, false).await;
        stands(&buys, StatusKind::Failed).await;
    }
    stage.open(true);
    let failed = stage.partitura.client().instances().workflow("Buys").status(StatusKind::Failed);
    assert_eq!(soon(failed.retry_tasks("open again").into_future()).await.expect("retried").done, 3);
    for id in ["a", "b", "c"] {
        assert_eq!(stage.result(id).await.expect("a result"), "tea!!");
    }
}
