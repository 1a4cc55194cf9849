//! Services that bear a few calls at a time, or like many at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use partitura::{Cx, Limit, TaskContext, join_all, millis};

use crate::stage::Stage;
use crate::support::{Oops, soon};

#[partitura::service]
trait Bar {
    /// Takes a moment.
    #[limit(per = "tenant", at_most = 2)]
    async fn serve(&self, tenant: String) -> Result<u32, Oops>;
    /// Doubles numbers, but for those that are divisible by seven.
    #[batch(max = 10, within_ms = 50)]
    async fn double(&self, numbers: Vec<u32>) -> Vec<Result<u32, Oops>>;
}

/// By tenant: how many are served now, at most, and in all.
#[derive(Debug, Clone, Default)]
struct Clerk(Arc<Mutex<BTreeMap<String, [u32; 3]>>>);

impl Clerk {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, [u32; 3]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bar for Clerk {
    async fn serve(&self, tenant: String) -> Result<u32, Oops> {
        {
            let mut served = self.lock();
            let [now, most, all] = served.entry(tenant.clone()).or_default();
            (*now, *all) = (*now + 1, *all + 1);
            *most = (*now).max(*most);
        }
        tokio::time::sleep(millis(30)).await;
        self.lock().entry(tenant).or_default()[0] -= 1;
        Ok(1)
    }

    async fn double(&self, numbers: Vec<u32>) -> Vec<Result<u32, Oops>> {
        assert_eq!(TaskContext::batch().len(), numbers.len());
        let mut served = self.lock();
        let [_, most, all] = served.entry("numbers".to_owned()).or_default();
        let together = numbers.len() as u32;
        (*most, *all) = (together.max(*most), together + *all);
        let double = |number: u32| if number.is_multiple_of(7) { Err(Oops::Busy) } else { Ok(number * 2) };
        numbers.into_iter().map(double).collect()
    }
}

/// Has many numbers doubled at once, and says which were not.
#[derive(Debug, Default)]
struct Numbers;

#[partitura::workflow]
impl Numbers {
    #[run]
    async fn run(cx: Cx<Self>, count: u32) -> Result<Vec<u32>, Oops> {
        let bar = cx.service::<BarStub>();
        let doubled = join_all((1..=count).map(|number| bar.double(number))).await;
        let wrong = (1..).zip(doubled).filter(|(number, doubled)| match doubled {
            Ok(double) => *double != number * 2,
            Err(_) => true,
        });
        Ok(wrong.map(|(number, _)| number).collect())
    }
}

pub(crate) async fn calls_of_a_batch_each_get_their_own_result(stage: Stage) {
    let [first, second] = stage.processes(|settings| settings).await;
    let [one, other] = [Clerk::default(), Clerk::default()];
    let worker = first.worker().service(BarService(one.clone())).workflow::<Numbers>();
    let working = worker.start().await.expect("a worker");
    let helping = second.worker().service(BarService(other.clone())).start().await.expect("a worker");
    let numbers = first.client().workflow::<Numbers>("n");
    numbers.start(60).await.expect("started");
    assert_eq!(soon(numbers.result()).await.expect("a result"), [7, 14, 21, 28, 35, 42, 49, 56]);
    let served = [&one, &other].map(|clerk| clerk.lock().get("numbers").copied().unwrap_or_default());
    assert_eq!(served.iter().map(|[_, _, all]| all).sum::<u32>(), 60);
    assert!(served.iter().any(|[_, most, _]| (2..=10).contains(most)), "none came together: {served:?}");
    working.stop().await.expect("stopped");
    helping.stop().await.expect("stopped");
}

/// Brings some requests of each tenant, all at once.
#[derive(Debug, Default)]
struct Rush;

#[partitura::workflow]
impl Rush {
    #[run]
    async fn run(cx: Cx<Self>, tenants: Vec<(String, u32)>) -> Result<u32, Oops> {
        let bar = cx.service::<BarStub>();
        let each = tenants.iter().flat_map(|(tenant, count)| (0..*count).map(|_| bar.serve(tenant.clone())));
        let served = join_all(each.collect::<Vec<_>>()).await;
        Ok(served.into_iter().collect::<Result<Vec<_>, _>>()?.len() as u32)
    }
}

/// The places to wait at are few, so that some of the tasks go back to the broker.
pub(crate) async fn no_more_tasks_of_a_key_run_at_a_time_than_its_limit(stage: Stage) {
    let [first, second] = stage.processes(|settings| settings).await;
    let [one, other] = [Clerk::default(), Clerk::default()];
    let few = |worker: partitura::Worker, clerk: &Clerk| worker.service(BarService(clerk.clone())).concurrency(8);
    let working = few(first.worker(), &one).workflow::<Rush>().start().await.expect("a worker");
    let helping = few(second.worker(), &other).start().await.expect("a worker");
    let rush = first.client().workflow::<Rush>("r");
    rush.start(vec![("large".to_owned(), 40), ("small".to_owned(), 4)]).await.expect("started");
    assert_eq!(soon(rush.result()).await.expect("a result"), 44);
    let of = |tenant: &str| [&one, &other].map(|clerk| clerk.lock().get(tenant).copied().unwrap_or_default());
    for (tenant, count) in [("large", 40), ("small", 4)] {
        let served = of(tenant);
        assert!(served.iter().all(|[_, most, _]| *most <= 2), "{tenant}: {served:?}");
        assert_eq!(served.iter().map(|[_, _, all]| all).sum::<u32>(), count, "{tenant}");
    }
    working.stop().await.expect("stopped");
    helping.stop().await.expect("stopped");
}

/// The pace of a worker, however many tasks wait for it.
pub(crate) async fn tasks_begin_no_faster_than_the_rate_of_their_method(stage: Stage) {
    let partitura = stage.application().await;
    let clerk = Clerk::default();
    let rate = Limit::method::<BarStub>("serve").per_second(20.0);
    let worker = partitura.worker().service(BarService(clerk.clone())).workflow::<Rush>().limit(rate);
    let worker = worker.start().await.expect("a worker");
    let rush = partitura.client().workflow::<Rush>("r");
    let began = Instant::now();
    rush.start((0..30).map(|tenant| (format!("t{tenant}"), 1)).collect()).await.expect("started");
    assert_eq!(soon(rush.result()).await.expect("a result"), 30);
    // The first may come at once, and those that came late catch up a little.
    assert!(began.elapsed() >= millis(1_000), "{:?}", began.elapsed());
    worker.stop().await.expect("stopped");
}

/// The pace of two processes together: each alone would be twice as fast.
pub(crate) async fn a_rate_across_processes_is_kept_by_all_of_them_together(stage: Stage) {
    let [first, second] = stage.processes(|settings| settings).await;
    let clerk = Clerk::default();
    let limited = |worker: partitura::Worker| {
        let rate = Limit::method::<BarStub>("serve").per_second(20.0).across_processes();
        worker.service(BarService(clerk.clone())).concurrency(10).limit(rate)
    };
    let working = limited(first.worker()).workflow::<Rush>().start().await.expect("a worker");
    let helping = limited(second.worker()).start().await.expect("a worker");
    let rush = first.client().workflow::<Rush>("r");
    let began = Instant::now();
    rush.start((0..30).map(|tenant| (format!("t{tenant}"), 1)).collect()).await.expect("started");
    assert_eq!(soon(rush.result()).await.expect("a result"), 30);
    // The first may come at once.
    assert!(began.elapsed() >= millis(1_350), "{:?}", began.elapsed());
    working.stop().await.expect("stopped");
    helping.stop().await.expect("stopped");
}
