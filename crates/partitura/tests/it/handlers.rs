//! Updates and signals whose handlers wait.

use partitura::history::EventKind;
use partitura::{ClientError, Partitura, RunningWorker, UpdateError, WorkflowHandle};

use crate::booths::{Booth, BoothSignal, BoothUpdate, take};
use crate::in_memory;
use crate::support::{TextService, Texts, eventually, soon};

async fn worker(partitura: &Partitura) -> RunningWorker {
    partitura.worker().service(TextService(Texts::default())).workflow::<Booth>().start().await.expect("a worker")
}

/// Waits until the instance has recorded this many updates.
async fn has_recorded(booth: &WorkflowHandle<Booth>, number: usize) {
    let is_update = |kind: &EventKind| matches!(kind, EventKind::UpdateReceived { .. });
    eventually(|| async {
        let history = booth.history().await.ok()?;
        (history.iter().filter(|event| is_update(&event.kind)).count() >= number).then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_call_services_and_answers_all_that_ask_under_its_id() {
    let partitura = in_memory().await;
    let worker = worker(&partitura).await;
    let booth = partitura.client().workflow::<Booth>("d");
    booth.start(true).await.expect("started");
    let send = || booth.update(take("a")).id("first").into_future();
    let (one, two, three) = tokio::join!(send(), send(), booth.update(take("b")).into_future());
    assert_eq!((one.expect("taken"), two.expect("taken")), (1, 1));
    assert_eq!(three.expect("taken"), 2);
    booth.signal(BoothSignal::remember("c".into())).confirmed().await.expect("taken");
    booth.signal(BoothSignal::close("for good".into())).await.expect("sent");
    assert_eq!(soon(booth.result()).await.expect("a result"), ["a.", "b.", "c."]);
    assert_eq!(booth.update(take("a")).id("first").await.expect("taken then"), 1);
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_answered_by_the_worker_that_goes_on() {
    let partitura = in_memory().await;
    let first = worker(&partitura).await;
    let booth = partitura.client().workflow::<Booth>("d");
    booth.start(true).await.expect("started");
    let caller = tokio::spawn({
        let booth = booth.clone();
        async move { booth.update(BoothUpdate::think("tea".into())).await }
    });
    has_recorded(&booth, 1).await;
    first.stop().await.expect("stopped");
    let second = worker(&partitura).await;
    booth.signal(BoothSignal::rest()).await.expect("sent");
    assert_eq!(soon(caller).await.expect("no panic").expect("an answer"), "thought about tea");
    second.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_told_that_the_run_ended_before_the_handler_did() {
    let partitura = in_memory().await;
    let worker = worker(&partitura).await;
    for (id, how) in [("ends", "for good"), ("continues", "for today"), ("is terminated", "")] {
        let booth = partitura.client().workflow::<Booth>(id);
        booth.start(false).await.expect("started");
        let run = booth.describe().await.expect("known").run;
        let think = || booth.update(BoothUpdate::think("tea".into())).id("t").into_future();
        let end = async {
            has_recorded(&booth, 1).await;
            match how {
                "" => booth.terminate("enough").await.expect("sent"),
                _ => booth.signal(BoothSignal::close(how.into())).await.expect("sent"),
            }
        };
        let (told, ()) = tokio::join!(soon(think()), end);
        // Also when it asks again.
        for told in [told, soon(think()).await] {
            assert!(matches!(&told, Err(UpdateError::Interrupted { run: ended }) if *ended == run), "{id}: {told:?}");
        }
        let other = booth.update(BoothUpdate::think("coffee".into())).into_future();
        match id {
            "continues" => {
                booth.signal(BoothSignal::rest()).await.expect("sent");
                assert_eq!(soon(other).await.expect("an answer"), "thought about coffee");
            }
            _ => assert!(matches!(soon(other).await, Err(UpdateError::Client(ClientError::Ended { .. })))),
        }
    }
    worker.stop().await.expect("stopped");
}
