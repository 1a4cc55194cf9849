//! Limits: how many tasks run at a time, and begin in a second, of a method and of a key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use partitura::testing::TestEnv;
use partitura::{Cx, Limit, Never, TaskError, join_all, minutes, seconds};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::in_memory;
use crate::support::{eventually, soon};

#[partitura::service]
trait Kitchen {
    /// Takes a second.
    #[limit(per = "order.table", at_most = 2)]
    async fn cook(&self, order: Order);
    #[limit(per_second = 10)]
    async fn ring(&self);
    /// Takes until the test lets it end.
    async fn knead(&self);
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Order {
    table: String,
    dish: u32,
}

#[derive(Debug, Clone)]
struct Cook {
    state: Arc<Mutex<State>>,
    ends: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<String, u32>,
    most: BTreeMap<String, u32>,
    /// When each was done, by its table or method.
    done: Vec<(String, Instant)>,
}

impl Cook {
    fn new() -> Self {
        Self { state: Arc::default(), ends: Arc::new(Semaphore::new(0)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, what: &str) {
        let mut state = self.state();
        let running = state.running.entry(what.to_owned()).or_default();
        *running += 1;
        let running = *running;
        let most = state.most.entry(what.to_owned()).or_default();
        *most = running.max(*most);
    }

    fn end(&self, what: &str) {
        let mut state = self.state();
        *state.running.entry(what.to_owned()).or_default() -= 1;
        state.done.push((what.to_owned(), Instant::now()));
    }

    fn running(&self, what: &str) -> u32 {
        self.state().running.get(what).copied().unwrap_or(0)
    }
}

impl Kitchen for Cook {
    async fn cook(&self, order: Order) {
        self.begin(&order.table);
        sleep(seconds(1)).await;
        self.end(&order.table);
    }

    async fn ring(&self) {
        self.begin("ring");
        self.end("ring");
    }

    async fn knead(&self) {
        self.begin("knead");
        self.ends.acquire().await.expect("open").forget();
        self.end("knead");
    }
}

/// Orders some dishes for each table, rings and kneads, all at once.
#[derive(Debug, Default)]
struct Feast;

#[partitura::workflow]
impl Feast {
    #[run]
    async fn run(
        cx: Cx<Self>,
        (dishes, rings, doughs): (Vec<(String, u32)>, u32, u32),
    ) -> Result<(), TaskError<Never>> {
        let kitchen = cx.service::<KitchenStub>();
        let orders = dishes
            .into_iter()
            .flat_map(|(table, count)| (0..count).map(move |dish| Order { table: table.clone(), dish }));
        let mut tasks: Vec<_> = orders.map(|order| kitchen.cook(order)).collect();
        tasks.extend((0..rings).map(|_| kitchen.ring()));
        tasks.extend((0..doughs).map(|_| kitchen.knead()));
        join_all(tasks).await.into_iter().collect()
    }
}

async fn feast(cook: &Cook, dishes: &[(&str, u32)], rings: u32) -> Duration {
    let env = TestEnv::new().service(KitchenService(cook.clone())).workflow::<Feast>();
    let began = Instant::now();
    let dishes = dishes.iter().map(|(table, count)| ((*table).to_owned(), *count)).collect::<Vec<_>>();
    env.start::<Feast>("f", (dishes, rings, 0)).await.result().await.expect("a result");
    began.elapsed()
}

#[tokio::test]
async fn a_key_with_many_tasks_runs_two_at_a_time_and_holds_up_no_other() {
    let (cook, began) = (Cook::new(), Instant::now());
    let took = feast(&cook, &[("large", 200), ("small", 4)], 0).await;
    let state = cook.state();
    assert_eq!(state.most, [("large".to_owned(), 2), ("small".to_owned(), 2)].into());
    let small = state.done.iter().filter(|(table, _)| table == "small").map(|(_, at)| *at).max().expect("four");
    assert!(small - began < seconds(10), "the small table waited for {:?}", small - began);
    assert_eq!(state.done.len(), 204);
    // Most of them were put back, and the cooks were busy nevertheless.
    assert!((seconds(100)..seconds(200)).contains(&took), "200 dishes, two a second, took {took:?}");
}

#[tokio::test]
async fn tasks_with_a_rate_begin_evenly() {
    let cook = Cook::new();
    let took = feast(&cook, &[], 100).await;
    assert!((seconds(9)..minutes(1)).contains(&took), "100 at 10 a second took {took:?}");
    let moments: Vec<Instant> = cook.state().done.iter().map(|(_, at)| *at).collect();
    let closest = moments.windows(11).map(|window| window[10] - window[0]).min().expect("more than ten");
    assert!(closest >= Duration::from_millis(980), "eleven of them began within {closest:?}");
}

#[tokio::test]
async fn tasks_that_wait_for_room_go_to_another_worker_when_theirs_stops() {
    let partitura = in_memory().await;
    let [busy, idle] = [Cook::new(), Cook::new()];
    let worker = |cook: &Cook| {
        let limit = Limit::method::<KitchenStub>("knead").at_most(1);
        partitura.worker().service(KitchenService(cook.clone())).limit(limit).workflow::<Feast>()
    };
    let first = worker(&busy).start().await.expect("a worker");
    let feast = partitura.client().workflow::<Feast>("f");
    feast.start((Vec::new(), 0, 3)).await.expect("started");
    eventually(|| async { (busy.running("knead") == 1).then_some(()) }).await;
    let second = worker(&idle).start().await.expect("a worker");
    let (stopping, ()) = tokio::join!(first.stop(), async {
        // The one that runs here ends last.
        for done in 1..=2 {
            idle.ends.add_permits(1);
            eventually(|| async { (idle.state().done.len() == done).then_some(()) }).await;
        }
        busy.ends.add_permits(1);
    });
    stopping.expect("stopped");
    soon(feast.result()).await.expect("a result");
    assert_eq!((busy.state().done.len(), idle.state().most["knead"]), (1, 1));
    second.stop().await.expect("stopped");
}
