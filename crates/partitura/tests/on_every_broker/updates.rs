//! Updates from other processes, while workers come and go.

use partitura::history::EventKind;
use partitura::{ClientError, UpdateError};

use crate::booths::{Booth, BoothSignal, take};
use crate::carts::{Cart, CartError, CartUpdate, add};
use crate::stage::Stage;
use crate::support::{TextService, Texts, eventually, soon};

pub(crate) async fn an_update_is_answered_and_counts_once_under_its_id(stage: Stage) {
    let [worker, client] = stage.processes(|settings| settings).await;
    let worker = worker.worker().workflow::<Cart>().start().await.expect("a worker");
    let cart = client.client().workflow::<Cart>("c");
    cart.start(()).await.expect("started");
    for _ in 0..3 {
        assert_eq!(cart.update(add("nuts")).id("first").await.expect("added"), 1);
    }
    let nameless = cart.update(add("")).await;
    assert!(matches!(nameless, Err(UpdateError::Rejected(CartError::Nameless))), "{nameless:?}");
    assert!(cart.update(CartUpdate::pay()).id("pay").await.expect("paid"));
    assert_eq!(soon(cart.result()).await.expect("a result"), "nuts");
    assert!(cart.update(CartUpdate::pay()).id("pay").await.expect("it was paid then"));
    let late = cart.update(add("late")).await;
    assert!(matches!(late, Err(UpdateError::Client(ClientError::Ended { .. }))), "{late:?}");
    let history = soon(cart.history()).await.expect("a history");
    let received = history.iter().filter(|event| matches!(event.kind, EventKind::UpdateReceived { .. })).count();
    assert_eq!(received, 2);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_start_with_an_update_gives_its_result(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Cart>().start().await.expect("a worker");
    let cart = partitura.client().workflow::<Cart>("c");
    assert_eq!(cart.start(()).with_update(add("nuts")).await.expect("added"), 1);
    assert_eq!(cart.start(()).with_update(add("figs")).await.expect("added"), 2);
    assert!(cart.update(CartUpdate::pay()).await.expect("paid"));
    assert_eq!(soon(cart.result()).await.expect("a result"), "nuts figs");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn an_update_that_waits_is_answered_by_the_next_worker(stage: Stage) {
    let [first, second, client] = stage.processes(|settings| settings).await;
    let worker = first.worker().workflow::<Cart>().start().await.expect("a worker");
    let cart = client.client().workflow::<Cart>("c");
    cart.start(()).await.expect("started");
    assert_eq!(cart.update(add("nuts")).id("first").await.expect("added"), 1);
    worker.stop().await.expect("stopped");
    let (added, worker) =
        tokio::join!(cart.update(add("figs")).into_future(), second.worker().workflow::<Cart>().start());
    assert_eq!(added.expect("added"), 2);
    assert_eq!(cart.update(add("nuts")).id("first").await.expect("added then"), 1);
    worker.expect("a worker").stop().await.expect("stopped");
}

pub(crate) async fn a_handler_that_waits_answers_after_its_worker_has_gone(stage: Stage) {
    let [first, second, client] = stage.processes(|settings| settings).await;
    let worker = first.worker().workflow::<Booth>().start().await.expect("a worker");
    let booth = client.client().workflow::<Booth>("d");
    booth.start(true).await.expect("started");
    let caller = booth.update(take("a")).id("first").into_future();
    let go_on = async {
        let is_recorded = |kind: &EventKind| matches!(kind, EventKind::UpdateReceived { .. });
        eventually(|| async {
            let history = booth.history().await.ok()?;
            history.iter().any(|event| is_recorded(&event.kind)).then_some(())
        })
        .await;
        // No worker has run the service until now.
        worker.stop().await.expect("stopped");
        let next = second.worker().service(TextService(Texts::default())).workflow::<Booth>();
        next.start().await.expect("a worker")
    };
    let (answer, worker) = tokio::join!(caller, go_on);
    assert_eq!(answer.expect("taken"), 1);
    booth.signal(BoothSignal::close("for good".into())).await.expect("sent");
    assert_eq!(soon(booth.result()).await.expect("a result"), ["a."]);
    assert_eq!(booth.update(take("a")).id("first").await.expect("taken then"), 1);
    worker.stop().await.expect("stopped");
}
