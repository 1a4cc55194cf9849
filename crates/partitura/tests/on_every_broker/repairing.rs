//! Operators hold an instance up, give its tasks results, and run those again that have failed for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use partitura::{Cx, Payload, StartPolicy, StatusKind, TaskError};

use crate::stage::Stage;
use crate::support::{Oops, Waits, WaitsSignal, soon};

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
