//! Operators hold an instance up, give its tasks results, and run those again that have failed for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use partitura::{ClientError, Cx, Payload, StartPolicy, StatusKind, TaskError, Waiting, days};

use crate::stage::Stage;
use crate::support::{Oops, TextService, TextStub, Texts, Waits, WaitsSignal, eventually, soon};

#[partitura::service]
trait Shop {
    async fn buy(&self, what: String) -> Result<String, Oops>;
}

/// Refuses while it is closed.
#[derive(Debug, Clone, Default)]
struct Door(Arc<AtomicBool>);

impl Shop for Door {
    async fn buy(&self, what: String) -> Result<String, Oops> {
        if self.0.load(Ordering::SeqCst) { Ok(what + "!") } else { Err(Oops::No(what)) }
    }
}

#[derive(Debug, Default)]
struct Buys;

#[partitura::workflow]
impl Buys {
    #[run]
    async fn run(cx: Cx<Self>, what: String) -> Result<String, TaskError<Oops>> {
        cx.service::<ShopStub>().buy(what).await
    }
}

pub(crate) async fn a_paused_instance_keeps_what_arrives_until_it_is_resumed(stage: Stage) {
    let [first, second] = stage.processes(|settings| settings).await;
    let worker = first.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = second.client().instance("Waits", "w");
    soon(waits.start(Payload::null(), Vec::new(), StartPolicy::Reject)).await.expect("started");
    soon(waits.pause("a look at it").confirmed().into_future()).await.expect("paused");
    let typed = second.client().workflow::<Waits>("w");
    soon(typed.signal(WaitsSignal::release("tea".into())).confirmed().into_future()).await.expect("recorded");
    worker.stop().await.expect("stopped");
    let worker = second.worker().workflow::<Waits>().start().await.expect("a worker");
    assert_eq!(soon(waits.describe_by_worker()).await.expect("an answer").status.kind(), StatusKind::Paused);
    soon(waits.resume().because("all is well").confirmed().into_future()).await.expect("resumed");
    assert_eq!(soon(typed.result()).await.expect("a result"), "tea");
    worker.stop().await.expect("stopped");
}

/// Starts three instances that fail, and waits until they have.
async fn failed_three(client: &partitura::Client) {
    for id in ["a", "b", "c"] {
        let buys = client.workflow::<Buys>(id);
        buys.start(id.to_owned()).await.expect("started");
        soon(buys.result()).await.expect_err("the shop is closed");
    }
}

pub(crate) async fn tasks_that_failed_for_good_run_again_by_filter_with_a_dry_run(stage: Stage) {
    let partitura = stage.application().await;
    let door = Door::default();
    let worker = partitura.worker().service(ShopService(door.clone())).workflow::<Buys>().start().await;
    let worker = worker.expect("a worker");
    let client = partitura.client();
    failed_three(&client).await;
    door.0.store(true, Ordering::SeqCst);
    let failed = client.instances().workflow("Buys").status(StatusKind::Failed);
    let dry = soon(failed.retry_tasks("open again").dry_run().into_future()).await.expect("found");
    assert_eq!((dry.found, dry.done), (3, 0));
    assert_eq!(soon(failed.retry_tasks("open again").into_future()).await.expect("retried").done, 3);
    for id in ["a", "b", "c"] {
        assert_eq!(soon(client.workflow::<Buys>(id).result()).await.expect("a result"), format!("{id}!"));
    }
    worker.stop().await.expect("stopped");
}

pub(crate) async fn failed_tasks_are_given_a_result_by_filter(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().service(ShopService(Door::default())).workflow::<Buys>().start().await;
    let worker = worker.expect("a worker");
    let client = partitura.client();
    failed_three(&client).await;
    let failed = client.instances().workflow("Buys").status(StatusKind::Failed);
    let dry = soon(failed.skip_tasks(&"by hand", "the shop is gone").expect("JSON").dry_run().into_future());
    assert_eq!(dry.await.expect("found").found, 3);
    let skipped = soon(failed.skip_tasks(&"by hand", "the shop is gone").expect("JSON").into_future()).await;
    assert_eq!(skipped.expect("skipped").done, 3);
    for id in ["a", "b", "c"] {
        assert_eq!(soon(client.workflow::<Buys>(id).result()).await.expect("a result"), "by hand");
    }
    let history = soon(client.instance("Buys", "a").history(0, usize::MAX)).await.expect("a history");
    let said: Vec<String> = history.events.iter().map(|event| event.kind.to_string()).collect();
    assert!(said.iter().any(|said| said.contains("(the shop is gone)")), "{said:?}");
    worker.stop().await.expect("stopped");
}

/// Calls a method that hangs, and then another.
#[derive(Debug, Default)]
struct Hangs;

#[partitura::workflow]
impl Hangs {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        let texts = cx.service::<TextStub>();
        texts.hang().await?;
        Ok(texts.dot("on".to_owned()).await?)
    }
}

pub(crate) async fn a_task_that_hangs_is_given_a_result(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Hangs>();
    let worker = worker.start().await.expect("a worker");
    let hangs = partitura.client().instance("Hangs", "h");
    soon(hangs.start(Payload::null(), Vec::new(), StartPolicy::Reject)).await.expect("started");
    let none = soon(hangs.skip_task(9, &(), "a mistake")).await;
    assert!(matches!(none, Err(ClientError::Refused(_))), "{none:?}");
    soon(hangs.skip_task(1, &(), "it was done by hand")).await.expect("skipped");
    assert_eq!(soon(partitura.client().workflow::<Hangs>("h").result()).await.expect("a result"), "on.");
    let history = soon(hangs.history(0, usize::MAX)).await.expect("a history");
    let said: Vec<String> = history.events.iter().map(|event| event.kind.to_string()).collect();
    assert!(said.contains(&"Intervened: skip task 1 (it was done by hand)".to_owned()), "{said:?}");
    worker.stop().await.expect("stopped");
}

/// Sleeps for a day, and knows then how long it was.
#[derive(Debug, Default)]
struct Sleeps;

#[partitura::workflow]
impl Sleeps {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<bool, Oops> {
        let begun = cx.now();
        cx.sleep(days(1)).await?;
        Ok(cx.now() < begun + days(1))
    }
}

pub(crate) async fn a_timer_fires_by_hand_also_while_its_instance_is_paused(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Sleeps>().start().await.expect("a worker");
    let client = partitura.client();
    for is_paused in [false, true] {
        let (sleeps, typed) =
            (client.instance("Sleeps", is_paused.to_string()), client.workflow::<Sleeps>(is_paused.to_string()));
        soon(typed.start(()).confirmed()).await.expect("started");
        let waiting = soon(sleeps.describe()).await.expect("known").waiting;
        let [Waiting::Timer { seq, .. }] = waiting[..] else { panic!("{waiting:?}") };
        let none = soon(sleeps.fire_timer(seq + 1, "a mistake")).await;
        assert!(matches!(none, Err(ClientError::Refused(_))), "{none:?}");
        if is_paused {
            soon(sleeps.pause("a look at it").confirmed().into_future()).await.expect("paused");
        }
        soon(sleeps.fire_timer(seq, "it is tomorrow")).await.expect("fired");
        if is_paused {
            let again = soon(sleeps.fire_timer(seq, "once more")).await;
            assert!(matches!(again, Err(ClientError::Refused(_))), "{again:?}");
            soon(sleeps.resume().confirmed().into_future()).await.expect("resumed");
        }
        assert!(soon(typed.result()).await.expect("a result"), "it slept for a day");
        let history = soon(sleeps.history(0, usize::MAX)).await.expect("a history");
        let said: Vec<String> = history.events.iter().map(|event| event.kind.to_string()).collect();
        assert!(said.contains(&format!("Intervened: fire timer {seq} (it is tomorrow)")), "{said:?}");
    }
    worker.stop().await.expect("stopped");
}

pub(crate) async fn all_instances_of_a_filter_are_paused_resumed_and_ended(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    for id in ["a", "b", "c", "d"] {
        soon(client.workflow::<Waits>(id).start(()).tag("all").confirmed()).await.expect("started");
    }
    let all = client.instances().tag("all");
    let count = async |status| all.clone().status(status).count(9).await.expect("counted").counted;
    assert_eq!(soon(all.pause("a look at some").at_most(2).into_future()).await.expect("paused").done, 2);
    assert_eq!((count(StatusKind::Paused).await, count(StatusKind::Running).await), (2, 2));
    let resumed = soon(all.resume("seen").into_future()).await.expect("resumed");
    assert_eq!((resumed.found, resumed.done), (2, 2), "only those that were paused");
    let early = soon(all.delete().into_future()).await.expect("nothing to do");
    assert_eq!((early.found, early.done), (0, 0), "they run");
    assert_eq!(soon(all.terminate("enough").into_future()).await.expect("ended").done, 4);
    eventually(async || (count(StatusKind::Failed).await == 4).then_some(())).await;
    assert_eq!(soon(all.delete().into_future()).await.expect("deleted").done, 4);
    assert_eq!(all.count(9).await.expect("counted").counted, 0);
    worker.stop().await.expect("stopped");
}
