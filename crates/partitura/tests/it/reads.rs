//! Lists, counts and the overview read the same however many instances there are: requests and rows are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use partitura::contract::{Entry, Expect, Put, Result, ScanRange, Space, Version};
use partitura::{BrokerStore, Cancelled, Cx, Instances, Order, Partitura, StatusKind, Store, Timestamp};
use serde_json::{Value, json};

use crate::support::soon;

/// The number of workflows, each with instances that stand in six places.
const WORKFLOWS: usize = 12;

/// A store that counts what is read.
#[derive(Debug)]
struct Counting {
    inner: BrokerStore,
    requests: AtomicUsize,
    rows: AtomicUsize,
    /// The rows that were counted.
    counted: AtomicUsize,
}

impl Counting {
    fn read<'a>(&self, pages: impl IntoIterator<Item = &'a Vec<Entry>>) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(pages.into_iter().map(Vec::len).sum(), Ordering::SeqCst);
    }

    /// The cost of what is done: requests, rows that were read, rows that were counted.
    async fn cost<T>(&self, work: impl Future<Output = T>) -> (usize, usize, usize) {
        let counters = [&self.requests, &self.rows, &self.counted];
        counters.iter().for_each(|counter| counter.store(0, Ordering::SeqCst));
        drop(soon(work).await);
        let [requests, rows, counted] = counters.map(|counter| counter.load(Ordering::SeqCst));
        (requests, rows, counted)
    }
}

#[async_trait]
impl Store for Counting {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        self.inner.write(groups).await
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(1, Ordering::SeqCst);
        self.inner.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        let page = self.inner.scan(range, limit).await?;
        self.read([&page]);
        Ok(page)
    }

    async fn scan_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<Vec<Entry>>> {
        let pages = self.inner.scan_each(ranges, limit).await?;
        self.read(&pages);
        Ok(pages)
    }

    async fn count(&self, range: ScanRange, limit: usize) -> Result<usize> {
        Ok(self.count_each(vec![range], limit).await?[0])
    }

    async fn count_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<usize>> {
        let counts = self.inner.count_each(ranges, limit).await?;
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.counted.fetch_add(counts.iter().sum(), Ordering::SeqCst);
        Ok(counts)
    }
}

/// Runs once, for its row.
#[derive(Debug, Default)]
struct Sample;

#[partitura::workflow]
impl Sample {
    #[run]
    async fn run(_cx: Cx<Self>) -> std::result::Result<u32, Cancelled> {
        Ok(42)
    }
}

/// A deployment of this many instances, whose rows are copies of that of one that ran.
async fn deployment(instances: usize) -> (Partitura, Arc<Counting>) {
    let inner = BrokerStore::new(partitura::broker("memory:").await.expect("a broker")).expect("it keeps state");
    let counter = AtomicUsize::default;
    let store = Arc::new(Counting { inner, requests: counter(), rows: counter(), counted: counter() });
    let given = store.clone();
    let partitura = partitura::connect("memory:").with(move |settings| settings.store(given)).await.expect("connected");
    let worker = partitura.worker().build_id("usual").workflow::<Sample>().start().await.expect("a worker");
    let sample = partitura.client().workflow::<Sample>("sample");
    sample.start(()).await.expect("started");
    soon(sample.result()).await.expect("a result");
    worker.stop().await.expect("stopped");
    let rows = store.scan(ScanRange::prefix("instances", "Sample\0"), 1).await.expect("read");
    let row: Value = serde_json::from_slice(&rows[0].value).expect("JSON");
    let served = store.scan(ScanRange::prefix("served", "w"), 1).await.expect("read")[0].value.clone();
    let note = |name: String| put("served", format!("w{name}"), served.clone());
    let notes = (0..WORKFLOWS).map(|number| note(workflow(number))).collect();
    let copies: Vec<Put> = (0..instances).map(|number| copy(&row, number)).collect();
    for result in store.write(vec![notes, copies]).await {
        result.expect("written");
    }
    assert_eq!(partitura.client().instances().reindex().await.expect("indexed"), instances + 1);
    (partitura, store)
}

fn put(space: Space, key: String, value: Bytes) -> Put {
    Put { space, key: key.into(), expect: Expect::Any, value: Some(value) }
}

fn workflow(number: usize) -> String {
    format!("Workflow{number:02}")
}

fn copy(row: &Value, number: usize) -> Put {
    let (workflow, id) = (workflow(number % WORKFLOWS), format!("order-{number:05}"));
    let status = ["Running", "Completed", "Failed", "Cancelled", "Running", "Completed", "Completed", "Stopped"];
    let status = match status[number / WORKFLOWS % status.len()] {
        "Stopped" => json!({"Stopped": {"reason": "no such carrier"}}),
        name => json!(name),
    };
    let mut row = row.clone();
    let (body, started) = (&mut row["body"], 1_000_000 + number as u64);
    let is_open = status == "Running" || status.is_object();
    let fields = json!({
        "workflow": workflow, "id": id, "run": format!("run-{number}"), "status": status, "started_at": started,
        "closed_at": (!is_open).then_some(started + 1), "tags": [format!("tag-{}", number % 7)],
        "build": if number % 1_000 == 7 { "rare" } else { "usual" },
    });
    let Value::Object(fields) = fields else { unreachable!() };
    fields.into_iter().for_each(|(name, value)| body[name] = value);
    put("instances", format!("{workflow}\0{id}"), row.to_string().into())
}

fn searches(all: impl Fn() -> Instances) -> Vec<(&'static str, Instances)> {
    let time = |millis| Timestamp::from_millisecond(millis).expect("a time");
    vec![
        ("all", all()),
        ("of a workflow", all().workflow(workflow(3))),
        ("running", all().status(StatusKind::Running)),
        ("by their ends", all().ordered(Order::Closed)),
        ("of a time", all().started_from(time(1_000_100)).started_before(time(1_001_900))),
        ("with a tag", all().tag("tag-3")),
        ("with a tag and a status", all().tag("tag-3").status(StatusKind::Failed)),
        ("by the beginning of an id", all().id_prefix("order-0")),
    ]
}

#[tokio::test]
async fn a_page_reads_the_same_however_many_instances_there_are() {
    let (few, many) = (deployment(1_000).await, deployment(4_000).await);
    for ((name, of_few), (_, of_many)) in
        searches(|| few.0.client().instances()).into_iter().zip(searches(|| many.0.client().instances()))
    {
        // Where rows have to be looked at, up to 2,000 are.
        let most = if name == "with a tag and a status" { 2_000 } else { 450 };
        let page = few.1.cost(of_few.page(50)).await;
        let (requests, rows, _) = many.1.cost(of_many.page(50)).await;
        assert!(requests <= 12, "{name}: {requests} requests");
        assert!(rows <= most, "{name}: {rows} rows");
        assert!(requests <= page.0 + 2, "{name}: {requests} requests, and of fewer instances {}", page.0);

        let first = of_many.page(50).await.expect("a page");
        let Some(mut next) = first.next else { continue };
        for _ in 0..3 {
            let Some(further) = of_many.page_after(&next, 100).await.expect("a page").next else { break };
            next = further;
        }
        let (requests, rows, _) = many.1.cost(of_many.page_after(&next, 50)).await;
        assert!(requests <= 12 && rows <= most, "{name}, far behind: {requests} requests, {rows} rows");
    }
}

#[tokio::test]
async fn a_count_reads_no_row_and_counts_no_more_than_three_times_its_limit() {
    let (partitura, store) = deployment(4_000).await;
    for (name, search) in searches(|| partitura.client().instances()) {
        if name == "with a tag and a status" {
            continue;
        }
        let (requests, rows, counted) = store.cost(search.count(100)).await;
        assert!(requests <= 7, "{name}: {requests} requests");
        // The notes of the workers.
        assert!(rows <= 20, "{name}: {rows} rows");
        // With one key for each workflow, to find their names.
        assert!(counted <= 300 + WORKFLOWS + 1, "{name}: {counted} were counted");
        let count = search.count(100).await.expect("counted");
        assert!(count.counted == 100 && count.is_capped, "{name}: {count}");
        let exact = search.count(10_000).await.expect("counted");
        assert_eq!(exact.counted, search.first(10_000).await.expect("found").len(), "{name}");
    }
}

#[tokio::test]
async fn the_names_of_the_workflows_take_two_requests_also_where_a_worker_has_not_noted_one() {
    let (partitura, store) = deployment(500).await;
    let instances = partitura.client().instances();
    let names: Vec<String> = (0..WORKFLOWS).map(workflow).collect();
    let sample = ["Sample".to_owned()];
    assert_eq!(instances.workflows().await.expect("names"), [&sample[..], &names].concat());
    assert_eq!(store.cost(instances.workflows()).await.0, 2);

    let unnoted = json!({"workflow": "Unnoted", "id": "u", "run": "run"});
    let copies = ["A", "Workflow", "Workflow03x", "Z"].map(|name| {
        let value = Bytes::from(unnoted.to_string());
        put("instances", format!("{name}\0u"), value)
    });
    for result in store.write(vec![copies.into()]).await {
        result.expect("written");
    }
    let mut all = [&["A", "Sample", "Workflow", "Workflow03x", "Z"].map(str::to_owned)[..], &names].concat();
    all.sort();
    assert_eq!(instances.workflows().await.expect("names"), all);
}

#[tokio::test]
async fn the_numbers_of_all_workflows_are_counted_in_one_request() {
    let (partitura, store) = deployment(1_000).await;
    let instances = partitura.client().instances();
    let names = instances.workflows().await.expect("names");
    let tally = instances.tally(&names, 10).await.expect("counted");
    for (name, counts) in names.iter().zip(tally) {
        for (status, count) in StatusKind::ALL.into_iter().zip(counts) {
            let counted = partitura.client().instances().workflow(name).status(status).count(10).await;
            assert_eq!(count, counted.expect("counted"), "{name}, {}", status.name());
        }
    }
    let (requests, rows, counted) = store.cost(instances.tally(&names, 10)).await;
    assert!((requests, rows) == (1, 0) && counted <= names.len() * 6 * 11, "{requests}, {rows}, {counted}");
}
