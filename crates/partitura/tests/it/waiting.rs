//! The waits of an instance in its description.

use partitura::{Cx, Waiting, hours, join};

use crate::in_memory;
use crate::support::{Oops, TextStub, Waits, WaitsSignal, eventually, soon};

/// Waits for one thing of each kind. No worker runs its service.
#[derive(Debug, Default)]
struct WaitsForAll {
    enough: bool,
}

#[partitura::workflow]
impl WaitsForAll {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let numbers = cx.channel::<u32>("numbers");
        let texts = cx.service::<TextStub>();
        let children = async { cx.child::<Waits>("child").run(()).await.is_ok() };
        let step = cx.step("endless", async { std::future::pending::<Result<(), Oops>>().await });
        let inner = async { join!(texts.dot("x".into()), cx.sleep(hours(1)), children, step) };
        let waits = async { join!(cx.until(|waits: &Self| waits.enough), numbers.recv()) };
        let _all = join!(inner, waits);
        Ok(())
    }
}

#[tokio::test]
async fn a_description_names_what_an_instance_waits_for() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<WaitsForAll>().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let waits = client.workflow::<WaitsForAll>("w");
    waits.start(()).await.expect("started");
    let described = soon(waits.describe()).await.expect("known");
    let kinds: Vec<String> = described
        .waiting
        .iter()
        .map(|waiting| match waiting {
            Waiting::Task { service, method, scheduled_at, attempt, .. } => {
                assert!(*scheduled_at >= described.started_at);
                format!("{service}.{method}, attempt {attempt:?}")
            }
            Waiting::Timer { due_at, .. } => format!("timer in {} h", (due_at - described.started_at) / 3_600_000),
            Waiting::Child { workflow, id, .. } => format!("{workflow}/{id}"),
            Waiting::Step { name, .. } => name.clone(),
            Waiting::Channel { name } => name.clone(),
            Waiting::Condition => "condition".to_owned(),
            other => format!("{other:?}"),
        })
        .collect();
    let mut known = kinds.clone();
    known.sort();
    let all = ["Text.dot, attempt None", "Waits/child", "condition", "endless", "numbers", "timer in 1 h"];
    assert_eq!((known, described.waits_for), (all.map(str::to_owned).to_vec(), 6));
    // The messages that have come are no longer waited for.
    let child = client.workflow::<Waits>("child");
    eventually(|| async { child.signal(WaitsSignal::release("x".into())).confirmed().await.ok() }).await;
    soon(child.result()).await.expect("a result");
    eventually(|| async { (waits.describe().await.ok()?.waits_for == 5).then_some(()) }).await;
    waits.terminate("enough").confirmed().await.expect("terminated");
    assert_eq!(soon(waits.describe()).await.expect("known").waiting, []);
    worker.stop().await.expect("stopped");
}

#[derive(Debug, Default)]
struct WaitsForMany;

#[partitura::workflow]
impl WaitsForMany {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let texts = cx.service::<TextStub>();
        partitura::join_all((0..500).map(|_| texts.dot("x".into()))).await;
        Ok(())
    }
}

#[tokio::test]
async fn a_description_names_a_hundred_things_and_counts_the_others() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<WaitsForMany>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<WaitsForMany>("w");
    waits.start(()).await.expect("started");
    let described = soon(waits.describe()).await.expect("known");
    assert_eq!((described.waiting.len(), described.waits_for), (100, 500));
    worker.stop().await.expect("stopped");
}

#[tokio::test]
async fn connecting_can_wait_for_what_is_not_there_yet() {
    let directory = tempfile::tempdir().expect("a directory");
    let blocked = directory.path().join("blocked");
    std::fs::write(&blocked, "a file is where the broker's directory is to be").expect("written");
    let url = format!("embedded:{}", blocked.join("broker").display());
    partitura::connect(&url).await.expect_err("it is not there");
    let waiting = tokio::spawn(async move { partitura::connect(url).wait(crate::support::LIVENESS).await });
    std::fs::remove_file(&blocked).expect("removed");
    soon(waiting).await.expect("no panic").expect("connected");
}
