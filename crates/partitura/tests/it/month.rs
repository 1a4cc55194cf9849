//! A month of schedules, continuing workflows and retention leaves the store no larger than its living instances.

use std::sync::Arc;

use partitura::{BrokerStore, Cancelled, Cx, Partitura, Store, days, hours, minutes};
use partitura_broker::ScanRange;
use tokio::time::sleep;

use crate::support::soon;
use crate::troubled::{Troubled, Virtual, embedded};

/// Every set of keys that the engine writes.
const SPACES: [&str; 12] = [
    "history",
    "instances",
    "index",
    "expiries",
    "children",
    "heartbeats",
    "stopped",
    "outbox",
    "refused",
    "crashes",
    "pauses",
    "served",
];

/// Lives as long as it is let: a day in each run.
#[derive(Debug, Default)]
struct Guard {
    relieved: bool,
}

#[partitura::workflow]
impl Guard {
    #[run]
    async fn run(cx: Cx<Self>, watches: u32) -> Result<u32, Cancelled> {
        for hour in 0..12 {
            cx.child::<Round>(format!("{}-{watches}-{hour}", cx.id())).run(()).await.ok();
            cx.sleep(minutes(115)).await?;
            if cx.state(|guard| guard.relieved) {
                return Ok(watches);
            }
        }
        cx.continue_as_new(watches + 1).await
    }

    #[signal]
    fn relieve(&mut self) {
        self.relieved = true;
    }
}

/// Ends soon.
#[derive(Debug, Default)]
struct Round;

#[partitura::workflow]
impl Round {
    #[run]
    async fn run(cx: Cx<Self>, _: ()) -> Result<(), Cancelled> {
        cx.sleep(minutes(5)).await
    }
}

/// The number of rows in each space.
async fn rows(store: &dyn Store) -> Vec<(&'static str, usize)> {
    let mut rows = Vec::new();
    for space in SPACES {
        let found = store.scan(ScanRange::prefix(space, ""), usize::MAX).await.expect("read");
        rows.push((space, found.len()));
    }
    rows
}

/// Rows and bytes of all that is stored.
async fn stored(store: &dyn Store) -> (usize, usize) {
    let (mut rows, mut bytes) = (0, 0);
    for space in SPACES {
        for entry in store.scan(ScanRange::prefix(space, ""), usize::MAX).await.expect("read") {
            rows += 1;
            bytes += entry.key.len() + entry.value.len();
        }
    }
    (rows, bytes)
}

/// The most that is stored within some days, looked at every hour.
async fn most(store: &dyn Store, within: u32) -> (usize, usize) {
    let mut most = (0, 0);
    for _ in 0..within * 24 {
        sleep(hours(1)).await;
        let (rows, bytes) = stored(store).await;
        most = (rows.max(most.0), bytes.max(most.1));
    }
    most
}

/// A month in which a schedule starts an instance every hour, and a guard does its rounds.
async fn a_month(partitura: Partitura, store: &dyn Store) {
    let worker = partitura.worker().workflow::<Guard>().workflow::<Round>().schedules();
    let worker = worker.start().await.expect("a worker");
    sleep(minutes(1)).await;
    // The marks of a worker, which no instance adds to.
    let empty = rows(store).await;
    let client = partitura.client();
    let patrol = client.schedule("patrol");
    patrol.every(hours(1)).start::<Round>(()).await.expect("started");
    let guard = client.workflow::<Guard>("g");
    guard.start(0).await.expect("started");
    // The schedule continues as new after four days, the guard after one. The first run of each carries less along.
    sleep(days(5)).await;
    let early = most(store, 5).await;
    sleep(days(15)).await;
    let late = most(store, 5).await;
    assert!(
        late.0 <= early.0 * 11 / 10 && late.1 <= early.1 * 11 / 10,
        "rows and bytes: {early:?} early, {late:?} late"
    );

    guard.signal(GuardSignal::relieve()).await.expect("sent");
    sleep(hours(2)).await;
    assert_eq!(soon(guard.result()).await.expect("a result"), 30);
    soon(patrol.delete()).await.expect("deleted");
    sleep(hours(3)).await;
    worker.stop().await.expect("stopped");
    assert_eq!(rows(store).await, empty);
}

#[tokio::test(start_paused = true)]
async fn after_a_month_the_store_holds_what_lives_and_nothing_else() {
    let clock = Virtual::new();
    let broker = embedded(&clock);
    let store = BrokerStore::new(broker.clone()).expect("it has transactions");
    let partitura = Partitura::on(broker).clock(clock).partitions(2).retention(hours(2)).await.expect("an engine");
    a_month(partitura, &store).await;
}

#[tokio::test(start_paused = true)]
async fn so_does_a_store_beside_the_broker() {
    let clock = Virtual::new();
    let (broker, beside) = (Troubled::new(&embedded(&clock)).without_transactions(), embedded(&clock));
    let store = BrokerStore::new(beside).expect("it has transactions");
    let partitura = Partitura::on(broker.broker()).store(Arc::new(store.clone())).clock(clock).partitions(2);
    let partitura = partitura.retention(hours(2)).await.expect("an engine");
    a_month(partitura, &store).await;
}
