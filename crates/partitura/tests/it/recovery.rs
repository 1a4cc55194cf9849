//! Workers that go away, state that is read again, and the two ways to commit.

use std::path::Path;

use partitura::{Cx, ErrorKind, Partitura, Status, join_all, millis};

use crate::support::{Oops, TextService, TextStub, Texts, Three, eventually, soon};

/// The broker in one directory, the state with the broker or, in two steps, in another file.
async fn on_disk(dir: &Path, two_steps: bool) -> Partitura {
    let connect = || {
        // A dropped worker looks like a lost process to the next one, and each lives for shorter than some turns take.
        let connect =
            partitura::connect(format!("embedded:{}", dir.join("broker").display())).with(|builder| builder.crashes(0));
        if two_steps { connect.store(format!("embedded:{}", dir.join("store").display())) } else { connect }
    };
    // The tasks that a dropped worker left running hold its files until they are dropped, too.
    eventually(|| async {
        match connect().await {
            Err(error) if error.kind() == ErrorKind::Busy => None,
            opened => Some(opened.expect("an embedded broker")),
        }
    })
    .await
}

/// A call, a timer, a signal, a call.
#[derive(Debug, Default)]
struct Mixed {
    go: bool,
}

#[partitura::workflow]
impl Mixed {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<String, Oops> {
        let texts = cx.service::<TextStub>();
        let text = texts.dot(text).await?;
        cx.sleep(millis(3)).await?;
        cx.until(|mixed: &Mixed| mixed.go).await?;
        let all = join_all((0..5).map(|_| texts.dot(text.clone()))).await;
        let dots = all.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(dots.concat())
    }

    #[signal]
    fn go(&mut self) {
        self.go = true;
    }
}

async fn goes_on_after_every_interruption(two_steps: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    for round in 0..10 {
        let partitura = on_disk(dir.path(), two_steps).await;
        let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Mixed>();
        let worker = worker.start().await.expect("a worker");
        let client = partitura.client();
        for i in 0..20 {
            client.workflow::<Mixed>(format!("m{i}")).start("x".into()).await.expect("started");
        }
        if round > 3 {
            for i in 0..20 {
                client.workflow::<Mixed>(format!("m{i}")).signal(MixedSignal::go()).await.expect("sent");
            }
        }
        tokio::time::sleep(millis(round)).await;
        // Dropped in the middle of whatever it does.
        drop(worker);
        partitura.close().await.expect("closed");
    }
    let partitura = on_disk(dir.path(), two_steps).await;
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Mixed>();
    let worker = worker.start().await.expect("a worker");
    for i in 0..20 {
        let mixed = partitura.client().workflow::<Mixed>(format!("m{i}"));
        mixed.signal(MixedSignal::go()).await.expect("sent");
        assert_eq!(soon(mixed.result()).await.expect("a result"), "x..".repeat(5));
        let history = soon(mixed.history()).await.expect("a history");
        let results = history.iter().filter(|event| event.to_string().starts_with("TaskCompleted")).count();
        assert_eq!(results, 6, "each result is applied once");
    }
    worker.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workflows_go_on_after_every_interruption_with_one_transaction_per_turn() {
    goes_on_after_every_interruption(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workflows_go_on_after_every_interruption_with_a_separate_store_and_outbox() {
    goes_on_after_every_interruption(true).await;
}

#[tokio::test]
async fn what_was_started_before_any_worker_runs_once_there_is_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let partitura = on_disk(dir.path(), false).await;
    partitura.client().workflow::<Three>("early").start("e".into()).await.expect("started");
    partitura.close().await.expect("closed");
    let partitura = on_disk(dir.path(), false).await;
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Three>();
    let worker = worker.start().await.expect("a worker");
    let early = partitura.client().workflow::<Three>("early");
    assert_eq!(soon(early.result()).await.expect("a result"), "e...");
    let summary = eventually(|| async { early.describe().await.ok() }).await;
    assert_eq!(summary.status, Status::Completed);
    worker.stop().await.expect("stopped");
}
