//! Instances are found without their Rust types, and without a worker that runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use partitura::history::EventKind;
use partitura::{
    Attribute, Cx, InstanceName, Instances, Order, Partitura, ReceiveError, RunningWorker, Signal, StatusKind,
    Timestamp, Waiting, hours, minutes, seconds,
};
use partitura_broker::{Broker, Expect, Put, ScanRange, Unit};
use partitura_embedded::Embedded;
use tokio::time::sleep;

use crate::support::{Waits, eventually, soon};
use crate::troubled::{Virtual, embedded};

/// Says how much it is about, and ends with what it is told; an instance with a child waits for that.
#[derive(Debug, Default)]
struct Sale;

#[partitura::workflow]
impl Sale {
    #[run]
    async fn run(cx: Cx<Self>, (customer, cents): (String, u32)) -> Result<bool, ReceiveError> {
        cx.set_attribute("customer", customer);
        cx.set_attribute("cents", cents);
        cx.set_attribute("cents", cents);
        cx.set_attribute("since", cx.now());
        if cents > 1_000 {
            drop(cx.child::<Waits>(format!("{}-child", cx.id())).run(()).start());
        }
        let paid = cx.channel::<bool>("paid").recv().await?;
        cx.set_attribute("paid", paid);
        cx.remove_attribute("since");
        cx.version("receipts", 1..=2);
        cx.channel::<()>("receipt").recv().await?;
        Ok(paid)
    }
}

struct Stage {
    broker: Arc<Embedded>,
    partitura: Partitura,
    worker: Option<RunningWorker>,
}

impl Stage {
    async fn new() -> Self {
        let clock = Virtual::new();
        let broker = embedded(&clock);
        let partitura = Partitura::on(broker.clone()).clock(clock).partitions(2).retention(hours(1));
        let partitura = partitura.await.expect("an engine");
        let worker = Some(worker(&partitura).await);
        Self { broker, partitura, worker }
    }

    fn instances(&self) -> Instances {
        self.partitura.client().instances()
    }

    async fn start(&self, id: &str, tag: &str, customer: &str, cents: u32) {
        let sale = self.partitura.client().workflow::<Sale>(id);
        soon(sale.start((customer.into(), cents)).tag(tag).confirmed()).await.expect("started");
        sleep(seconds(1)).await;
    }

    async fn signal<T: serde::Serialize + serde::de::DeserializeOwned>(&self, id: &str, name: &'static str, value: T) {
        let sale = self.partitura.client().workflow::<Sale>(id);
        let signal = sale.signal(Signal::to_channel(name, &value)).confirmed();
        soon(std::future::IntoFuture::into_future(signal)).await.expect("recorded");
    }

    /// The keys of a space.
    async fn keys(&self, space: &'static str) -> BTreeSet<Vec<u8>> {
        let transactions = self.broker.transactions().expect("it keeps state");
        let all = transactions.scan(ScanRange::prefix(space, ""), usize::MAX).await.expect("read");
        all.into_iter().map(|entry| entry.key.to_vec()).collect()
    }

    async fn remove(&self, space: &'static str, key: Vec<u8>) {
        let put = vec![Put { space, key: key.into(), expect: Expect::Any, value: None }];
        let transactions = self.broker.transactions().expect("it keeps state");
        let mut results = transactions.commit(vec![Unit { put, ..Unit::default() }]).await;
        results.remove(0).expect("removed");
    }
}

async fn worker(partitura: &Partitura) -> RunningWorker {
    partitura.worker().build_id("blue").workflow::<Sale>().workflow::<Waits>().start().await.expect("a worker")
}

async fn ids(instances: Instances) -> Vec<String> {
    instances.first(100).await.expect("found").into_iter().map(|summary| summary.id).collect()
}

/// Reads the pages one by one.
async fn paged(instances: Instances, limit: usize) -> Vec<String> {
    let mut page = instances.page(limit).await.expect("a page");
    let mut found = Vec::new();
    loop {
        assert!(page.instances.len() <= limit);
        found.extend(page.instances.iter().map(|summary| summary.id.clone()));
        let Some(next) = page.next else { return found };
        let next = next.to_string().parse().expect("the cursor survives its text");
        page = instances.page_after(&next, limit).await.expect("a page");
    }
}

#[tokio::test(start_paused = true)]
async fn instances_are_found_by_what_is_known_of_them_while_no_worker_runs() {
    let mut stage = Stage::new().await;
    for (id, tag, customer, cents) in
        [("s1", "eu", "acme", 100), ("s2", "us", "acme", 2_000), ("s3", "eu", "dent", 100), ("t4", "eu", "acme", 7)]
    {
        stage.start(id, tag, customer, cents).await;
    }
    stage.signal("s1", "paid", true).await;
    for id in ["s1", "t4"] {
        stage.signal(id, "paid", true).await;
        stage.signal(id, "receipt", ()).await;
        sleep(seconds(1)).await;
    }
    stage.partitura.client().instance("Sale", "s3").cancel("enough").await.expect("sent");
    eventually(async || {
        let summary = stage.partitura.client().instance("Sale", "s3").summary().await.expect("known");
        summary.status.is_closed().then_some(())
    })
    .await;
    stage.worker.take().expect("one").stop().await.expect("stopped");
    let all = || stage.partitura.client().instances();

    assert_eq!(ids(all().workflow("Sale")).await, ["t4", "s3", "s2", "s1"]);
    assert_eq!(ids(all()).await, ["t4", "s3", "s2", "s2-child", "s1"]);
    assert_eq!(ids(all().status(StatusKind::Running)).await, ["s2", "s2-child"]);
    assert_eq!(ids(all().status(StatusKind::Completed).status(StatusKind::Failed)).await, ["t4", "s1"]);
    assert_eq!(ids(all().tag("eu")).await, ["t4", "s3", "s1"]);
    assert_eq!(ids(all().tag("eu").status(StatusKind::Completed)).await, ["t4", "s1"]);
    assert_eq!(ids(all().attribute("customer", "acme")).await, ["t4", "s2", "s1"]);
    assert_eq!(ids(all().attribute("customer", "acme").attribute("cents", 7)).await, ["t4"]);
    assert_eq!(ids(all().attribute("paid", true)).await, ["t4", "s1"]);
    assert_eq!(ids(all().attribute("cents", "7")).await, Vec::<String>::new());
    assert_eq!(ids(all().id_prefix("s")).await, ["s1", "s2", "s2-child", "s3"]);
    assert_eq!(ids(all().id_prefix("s2").workflow("Waits")).await, ["s2-child"]);
    assert_eq!(ids(all().build("blue").tag("us")).await, ["s2"]);
    assert_eq!(ids(all().build("green")).await, Vec::<String>::new());
    assert_eq!(ids(all().ordered(Order::Closed)).await, ["s3", "t4", "s1"]);
    assert_eq!(ids(all().parent(InstanceName::new("Sale", "s2"))).await, ["s2-child"]);
    assert_eq!(ids(stage.partitura.client().instance("Sale", "s2").children()).await, ["s2-child"]);
    for instances in [all(), all().ordered(Order::Closed), all().id_prefix(""), all().tag("eu")] {
        for limit in [1, 2, 3] {
            assert_eq!(paged(instances.clone(), limit).await, ids(instances.clone()).await, "{instances:?}, {limit}");
        }
    }
    assert_eq!(all().count(10).await.expect("counted").to_string(), "5");
    assert_eq!(all().count(4).await.expect("counted").to_string(), "4+");
    assert_eq!(all().tag("eu").status(StatusKind::Completed).count(10).await.expect("counted").to_string(), "2");
    let other = all().id_prefix("s").page(1).await.expect("a page").next.expect("more");
    all().page_after(&other, 1).await.expect_err("of another order");
}

#[tokio::test(start_paused = true)]
async fn instances_are_found_by_their_times() {
    let stage = Stage::new().await;
    for id in ["a", "b", "c"] {
        stage.start(id, "t", "acme", 1).await;
    }
    for id in ["c", "a", "b"] {
        stage.signal(id, "paid", true).await;
        stage.signal(id, "receipt", ()).await;
        sleep(seconds(1)).await;
    }
    let at = |millis: u64| Timestamp::from_millisecond(millis.try_into().expect("small")).expect("a time");
    let all = ids(stage.instances().ordered(Order::Closed)).await;
    assert_eq!(all, ["b", "a", "c"]);
    let [a, b] = ["a", "b"].map(|id| stage.partitura.client().instance("Sale", id));
    let (a, b) = (a.summary().await.expect("known"), b.summary().await.expect("known"));
    let (closed_a, closed_b) = (at(a.closed_at.expect("ended")), at(b.closed_at.expect("ended")));
    assert_eq!(ids(stage.instances().started_from(at(b.started_at))).await, ["c", "b"]);
    assert_eq!(ids(stage.instances().started_before(at(b.started_at))).await, ["a"]);
    assert_eq!(ids(stage.instances().started_from(at(a.started_at)).started_before(at(b.started_at))).await, ["a"]);
    assert_eq!(ids(stage.instances().closed_from(closed_a)).await, ["b", "a"]);
    assert_eq!(ids(stage.instances().closed_before(closed_a)).await, ["c"]);
    assert_eq!(ids(stage.instances().closed_from(closed_a).closed_before(closed_b)).await, ["a"]);
    assert_eq!(ids(stage.instances().tag("t").closed_from(closed_a)).await, ["b", "a"]);
    // A deleted instance is found no more.
    sleep(minutes(61)).await;
    assert_eq!(ids(stage.instances()).await, Vec::<String>::new());
    assert_eq!(stage.keys("index").await, BTreeSet::from([b"vSale".to_vec(), b"vWaits".to_vec()]));
}

#[tokio::test(start_paused = true)]
async fn one_instance_tells_all_that_is_stored_of_it_without_a_worker() {
    let mut stage = Stage::new().await;
    stage.start("one", "t", "acme", 2_000).await;
    stage.signal("one", "paid", false).await;
    stage.worker.take().expect("one").stop().await.expect("stopped");
    let one = stage.partitura.client().instance("Sale", "one");
    let summary = one.describe().await.expect("known");
    assert_eq!(summary.build.as_deref(), Some("blue"));
    assert_eq!(summary.versions.get("receipts"), Some(&2));
    assert_eq!(summary.attributes.get("paid"), Some(&Attribute::Bool(false)));
    assert_eq!(summary.attributes.get("cents"), Some(&Attribute::Integer(2_000)));
    assert_eq!(summary.attributes.get("since"), None);
    assert!(matches!(&summary.waiting[..], [Waiting::Child { id, .. }] if id == "one-child"), "{summary:?}");
    let versions = stage.partitura.client().versions::<Sale>().await.expect("counted");
    assert_eq!((versions.counted, versions.is_capped), (1, false));
    assert_eq!(versions.builds["Sale"]["blue"].instances, 1);
    assert_eq!(versions.changes["Sale"]["receipts"][&2].oldest, summary.started_at);
    let all = stage.partitura.client().instances().versions(1).await.expect("counted");
    assert_eq!((all.counted, all.is_capped), (1, true));
    let whole = one.history(0, usize::MAX).await.expect("a history");
    assert!(matches!(whole.events[0].kind, EventKind::WorkflowStarted(_)));
    let set = whole.events.iter().filter(|event| matches!(event.kind, EventKind::AttributeSet { .. })).count();
    assert_eq!((set, whole.total), (5, whole.events.len()), "the same again is not recorded");
    let last = one.last_events(3).await.expect("a history");
    assert_eq!((last.first, &last.events[..]), (whole.total - 3, &whole.events[whole.total - 3..]));
    let second = one.history(1, 2).await.expect("a history");
    assert_eq!((second.first, &second.events[..]), (1, &whole.events[1..3]));
    assert_eq!(one.runs().await.expect("runs"), [summary.run]);
    let missing = stage.partitura.client().instance("Sale", "two");
    missing.summary().await.expect_err("there is none");
    missing.history(0, 1).await.expect_err("there is none");
}

/// As a version wrote it that knew no index, and as one leaves it that runs beside this.
#[tokio::test(start_paused = true)]
async fn instances_of_an_earlier_version_are_found_once_a_worker_has_run() {
    let mut stage = Stage::new().await;
    for id in ["a", "b"] {
        stage.start(id, "t", "acme", 1).await;
    }
    stage.worker.take().expect("one").stop().await.expect("stopped");
    let written = stage.keys("index").await;
    for key in &written {
        stage.remove("index", key.clone()).await;
    }
    assert_eq!(ids(stage.partitura.client().instances()).await, Vec::<String>::new());
    let worker = worker(&stage.partitura).await;
    eventually(async || (stage.keys("index").await == written).then_some(())).await;
    worker.stop().await.expect("stopped");
    // One instance is gone, of another the rows are.
    let of = |id: &[u8]| written.iter().filter(move |key| key.ends_with(id)).cloned().collect::<Vec<_>>();
    for key in of(b"Sale\0a") {
        stage.remove("index", key).await;
    }
    stage.remove("instances", b"Sale\0b".to_vec()).await;
    assert_eq!(ids(stage.partitura.client().instances()).await, ["b"]);
    assert_eq!(stage.partitura.client().instances().reindex().await.expect("written anew"), 1);
    assert_eq!(ids(stage.partitura.client().instances()).await, ["a"]);
    let left: BTreeSet<Vec<u8>> = written.iter().filter(|key| !key.ends_with(b"Sale\0b")).cloned().collect();
    assert_eq!(stage.keys("index").await, left);
}
