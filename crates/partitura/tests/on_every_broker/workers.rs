//! Workers that share, leave, vanish and forget.

use partitura::Partitura;

use crate::stage::{Stage, forgetful};
use crate::support::{TextService, Texts, Three, Waits, WaitsSignal, soon};

async fn worker(partitura: &Partitura) -> partitura::RunningWorker {
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Three>();
    worker.start().await.expect("a worker")
}

pub(crate) async fn two_processes_share_the_work_and_one_may_leave(stage: Stage) {
    let [one, other, client] = stage.processes(|settings| settings).await;
    let (first, second) = (worker(&one).await, worker(&other).await);
    let handles: Vec<_> = (0..100).map(|i| client.client().workflow::<Three>(i.to_string())).collect();
    for handle in &handles[..50] {
        handle.start("a".into()).await.expect("started");
    }
    first.stop().await.expect("stopped");
    for handle in &handles[50..] {
        handle.start("a".into()).await.expect("started");
    }
    for handle in &handles {
        assert_eq!(soon(handle.result()).await.expect("a result"), "a...");
    }
    second.stop().await.expect("stopped");
}

pub(crate) async fn a_process_that_vanishes_is_replaced(stage: Stage) {
    let [one, other, client] = stage.processes(|settings| settings).await;
    let (first, second) = (worker(&one).await, worker(&other).await);
    let handles: Vec<_> = (0..60).map(|i| client.client().workflow::<Three>(i.to_string())).collect();
    for handle in &handles {
        handle.start("a".into()).await.expect("started");
    }
    // In the middle of whatever it does, without a word.
    drop(first);
    drop(one);
    for handle in &handles {
        assert_eq!(soon(handle.result()).await.expect("a result"), "a...");
        let history = soon(handle.history()).await.expect("a history");
        let results = history.iter().filter(|event| event.to_string().starts_with("TaskCompleted")).count();
        assert_eq!(results, 3, "each result is applied once");
    }
    second.stop().await.expect("stopped");
}

pub(crate) async fn what_fell_out_of_memory_is_read_again(stage: Stage) {
    let [partitura] = stage.processes(forgetful).await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let handles: Vec<_> = (0..30).map(|i| client.workflow::<Waits>(i.to_string())).collect();
    for handle in &handles {
        handle.start(()).await.expect("started");
    }
    for handle in &handles {
        handle.signal(WaitsSignal::release(handle.id().to_owned())).await.expect("sent");
        assert_eq!(soon(handle.result()).await.expect("a result"), handle.id());
    }
    worker.stop().await.expect("stopped");
}

pub(crate) async fn what_was_started_before_any_worker_runs_once_there_is_one(stage: Stage) {
    let [client, other] = stage.processes(|settings| settings).await;
    let early = client.client().workflow::<Three>("early");
    early.start("e".into()).await.expect("started");
    let worker = worker(&other).await;
    assert_eq!(soon(early.result()).await.expect("a result"), "e...");
    worker.stop().await.expect("stopped");
}
