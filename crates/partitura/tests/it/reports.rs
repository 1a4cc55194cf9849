//! A long task whose report is not taken at once.

use partitura::{minutes, seconds};

use crate::interrupted::{Bells, Rings, SecondService, conduct, within_an_hour};
use crate::troubled::{Troubled, Virtual, embedded};

/// The result of a task is not taken for ten minutes, while a copy of its request waits at another worker.
#[tokio::test(start_paused = true)]
async fn a_long_task_that_cannot_be_reported_for_a_while_runs_once() {
    let (clock, bells) = (Virtual::new(), Bells::default());
    let broker = embedded(&clock);
    let worker = async || {
        let place = Troubled::new(&broker).without_transactions().hold(minutes(1));
        let troubles = place.troubles.clone();
        let worker = place.engine(&clock).await.worker().service(SecondService(bells.clone())).concurrency(1);
        (worker.start().await.expect("a worker"), troubles)
    };
    let conducting = conduct(&Troubled::new(&broker).without_transactions().engine(&clock).await).await;
    let (one, troubles) = worker().await;
    let client = Troubled::new(&broker).engine(&clock).await.client();
    let (first, second) = (client.workflow::<Rings>("take1"), client.workflow::<Rings>("take2"));
    first.start("take".into()).await.expect("started");
    tokio::time::sleep(seconds(22)).await;
    // It waits in the same worker, which gets nothing else meanwhile.
    second.start("take".into()).await.expect("started");
    tokio::time::sleep(seconds(3)).await;
    let (two, others) = worker().await;
    [&troubles, &others].iter().for_each(|troubles| troubles.set_away(true));
    tokio::time::sleep(minutes(10)).await;
    [&troubles, &others].iter().for_each(|troubles| troubles.set_away(false));
    for rings in [first, second] {
        assert_eq!(within_an_hour(rings.result()).await.expect("a result"), 30);
    }
    tokio::time::sleep(minutes(5)).await;
    assert_eq!(bells.calls(), 2);
    for worker in [one, two, conducting] {
        worker.stop().await.expect("stopped");
    }
}
