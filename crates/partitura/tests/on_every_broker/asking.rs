//! Clients and operators that ask and act, with the types of the program and without.

use std::future::IntoFuture;

use partitura::events::{CloudEvent, TaskEvent};
use partitura::history::EventKind;
use partitura::{
    ClientError, Cx, Filter, InstanceName, Instances, Partitura, Payload, ReceiveError, RunningWorker, Signal,
    StartPolicy, StatusKind, Timestamp, WorkflowError,
};
use tokio::sync::mpsc;

use crate::stage::Stage;
use crate::support::{Oops, TextService, TextStub, Texts, Three, Waits, WaitsSignal, eventually, soon};

/// Says whom it is about, and ends when it is paid.
#[derive(Debug, Default)]
struct Sale;

#[partitura::workflow]
impl Sale {
    #[run]
    async fn run(cx: Cx<Self>, (customer, cents): (String, u32)) -> Result<bool, ReceiveError> {
        cx.set_attribute("customer", customer);
        cx.set_attribute("cents", cents);
        cx.channel::<bool>("paid").recv().await
    }
}

/// Four sales, of which the first is paid.
async fn sales(partitura: &Partitura) -> RunningWorker {
    let worker = partitura.worker().build_id("blue").workflow::<Sale>().start().await.expect("a worker");
    let client = partitura.client();
    for (id, tag, customer, cents) in
        [("s1", "eu", "acme", 100), ("s2", "us", "acme", 2_000), ("s3", "eu", "dent", 100), ("t4", "eu", "acme", 7)]
    {
        let sale = client.workflow::<Sale>(id);
        soon(sale.start((customer.into(), cents)).tag(tag).confirmed()).await.expect("started");
    }
    let first = client.workflow::<Sale>("s1");
    first.signal(Signal::to_channel("paid", &true)).await.expect("sent");
    assert!(soon(first.result()).await.expect("a result"));
    worker
}

async fn ids(instances: Instances) -> Vec<String> {
    instances.first(100).await.expect("found").into_iter().map(|summary| summary.id).collect()
}

pub(crate) async fn instances_are_found_by_their_attributes_without_a_worker(stage: Stage) {
    let partitura = stage.application().await;
    sales(&partitura).await.stop().await.expect("stopped");
    let all = || partitura.client().instances();
    assert_eq!(ids(all().attribute("customer", "acme")).await, ["t4", "s2", "s1"]);
    assert_eq!(ids(all().attribute("customer", "acme").attribute("cents", 7)).await, ["t4"]);
    assert_eq!(ids(all().attribute("cents", "7")).await, Vec::<String>::new());
    assert_eq!(ids(all().build("blue").tag("us")).await, ["s2"]);
    assert_eq!(ids(all().id_prefix("s")).await, ["s1", "s2", "s3"]);
}

pub(crate) async fn instances_are_counted_and_read_page_by_page(stage: Stage) {
    let partitura = stage.application().await;
    let worker = sales(&partitura).await;
    let all = || partitura.client().instances();
    assert_eq!(all().count(10).await.expect("counted").to_string(), "4");
    assert_eq!(all().count(3).await.expect("counted").to_string(), "3+");
    assert_eq!(all().status(StatusKind::Running).count(10).await.expect("counted").counted, 3);
    let mut page = all().page(3).await.expect("a page");
    let mut found: Vec<String> = page.instances.iter().map(|summary| summary.id.clone()).collect();
    while let Some(next) = page.next {
        page = all().page_after(&next, 3).await.expect("a page");
        found.extend(page.instances.iter().map(|summary| summary.id.clone()));
    }
    assert_eq!(found, ["t4", "s3", "s2", "s1"]);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn instances_are_found_by_the_time_of_their_start(stage: Stage) {
    let partitura = stage.application().await;
    let worker = sales(&partitura).await;
    let all = || partitura.client().instances();
    let third = partitura.client().instance("Sale", "s3").summary().await.expect("known").started_at;
    let third = Timestamp::from_millisecond(third.try_into().expect("a time")).expect("a time");
    assert_eq!(ids(all().started_before(third)).await, ["s2", "s1"]);
    assert_eq!(ids(all().started_from(third)).await, ["t4", "s3"]);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn an_ended_instance_is_deleted_by_hand_and_its_id_is_free(stage: Stage) {
    let partitura = stage.application().await;
    let worker = sales(&partitura).await;
    let client = partitura.client();
    let refused = soon(client.workflow::<Sale>("s2").delete().confirmed().into_future()).await;
    assert!(refused.is_err(), "it runs");
    let first = client.workflow::<Sale>("s1");
    soon(first.delete().confirmed().into_future()).await.expect("deleted");
    assert!(matches!(soon(first.describe()).await, Err(ClientError::NotFound { .. })));
    assert!(soon(first.start(("again".into(), 1)).confirmed()).await.expect("started").is_new);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn all_that_has_ended_is_purged_by_filter(stage: Stage) {
    let partitura = stage.application().await;
    let worker = sales(&partitura).await;
    let client = partitura.client();
    for id in ["s3", "t4"] {
        let sale = client.workflow::<Sale>(id);
        sale.signal(Signal::to_channel("paid", &false)).await.expect("sent");
        assert!(!soon(sale.result()).await.expect("a result"));
    }
    assert_eq!(soon(client.purge::<Sale>(Filter::all().tag("eu"))).await.expect("purged"), 3);
    assert_eq!(ids(client.instances()).await, ["s2"]);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn everything_works_without_the_type_of_the_workflow(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().instance("Waits", "w");
    let start =
        || waits.start(Payload::encode(&()).expect("a payload"), vec!["typeless".into()], StartPolicy::UseExisting);
    assert!(soon(start()).await.expect("started").is_new);
    assert!(!soon(start()).await.expect("taken").is_new);
    let answer = soon(waits.query("is_released", &())).await.expect("an answer");
    assert!(!answer.decode::<bool>().expect("a truth value"));
    let with = std::collections::BTreeMap::from([("with", "care")]);
    soon(waits.signal("release", &with).confirmed().into_future()).await.expect("recorded");
    assert_eq!(soon(partitura.client().workflow::<Waits>("w").result()).await.expect("a result"), "care");
    let history = soon(waits.history(0, 100)).await.expect("a history");
    assert!(history.total >= 3, "{}", history.total);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_signal_under_an_id_counts_once(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Sums>().start().await.expect("a worker");
    let sums = partitura.client().workflow::<Sums>("s");
    sums.start(()).await.expect("started");
    for (id, number) in [("a", 1), ("a", 1), ("b", 2), ("a", 1), ("c", 0)] {
        sums.signal(Signal::to_channel("number", &number)).id(id).await.expect("sent");
    }
    assert_eq!(soon(sums.result()).await.expect("a result"), [1, 2]);
    worker.stop().await.expect("stopped");
}

/// Collects numbers, up to a zero.
#[derive(Debug, Default)]
struct Sums;

#[partitura::workflow]
impl Sums {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<Vec<u32>, Oops> {
        let mut numbers = Vec::new();
        loop {
            match cx.channel::<u32>("number").recv().await.map_err(|error| Oops::Task(error.to_string()))? {
                0 => return Ok(numbers),
                number => numbers.push(number),
            }
        }
    }
}

pub(crate) async fn the_sender_of_a_request_is_told_whether_it_had_an_effect(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("w");
    let release = || soon(waits.signal(WaitsSignal::release("now".into())).confirmed().into_future());
    assert!(matches!(release().await, Err(ClientError::NotFound { .. })));
    waits.start(()).await.expect("started");
    release().await.expect("taken");
    assert_eq!(soon(waits.result()).await.expect("a result"), "now");
    assert!(matches!(release().await, Err(ClientError::Ended { .. })));
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_fork_goes_on_beside_its_instance(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Three>();
    let worker = worker.start().await.expect("a worker");
    let client = partitura.client();
    let three = client.workflow::<Three>("t");
    three.start("x".into()).await.expect("started");
    assert_eq!(soon(three.result()).await.expect("a result"), "x...");
    let history = soon(three.history()).await.expect("a history");
    let first = history.iter().position(|event| matches!(event.kind, EventKind::TaskCompleted { .. }));
    let events = first.expect("a task was completed") + 1;
    let fork = soon(client.instance("Three", "t").fork("f", events, "again from the first task")).await;
    fork.expect("forked");
    assert_eq!(soon(client.workflow::<Three>("f").result()).await.expect("a result"), "x...");
    assert_eq!(soon(three.history()).await.expect("a history").len(), history.len());
    worker.stop().await.expect("stopped");
}

pub(crate) async fn an_instance_is_reset_to_an_earlier_event(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Sums>().start().await.expect("a worker");
    let client = partitura.client();
    let sums = client.workflow::<Sums>("s");
    sums.start(()).await.expect("started");
    for number in [7, 8] {
        soon(sums.signal(Signal::to_channel("number", &number)).confirmed().into_future()).await.expect("recorded");
    }
    let before = soon(sums.describe()).await.expect("known").run;
    let run = soon(client.instance("Sums", "s").reset(1, "from the beginning")).await.expect("reset");
    assert_ne!(run, before);
    // Signals are given to the new run again.
    sums.signal(Signal::to_channel("number", &0_u32)).await.expect("sent");
    assert_eq!(soon(sums.result()).await.expect("a result"), [7, 8]);
    assert_eq!(soon(client.instance("Sums", "s").runs()).await.expect("known").len(), 2);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn the_versions_of_living_instances_are_counted(stage: Stage) {
    let partitura = stage.application().await;
    let worker = sales(&partitura).await;
    let versions = soon(partitura.client().versions::<Sale>()).await.expect("known");
    let blue = versions.builds.get("Sale").and_then(|builds| builds.get("blue"));
    assert_eq!(blue.map(|living| living.instances), Some(3), "{versions:?}");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn events_of_workflows_and_tasks_are_heard_by_who_subscribes(stage: Stage) {
    let partitura = stage.application().await;
    let workflows = partitura.events().workflow::<Three>("audit").await.expect("a subscription");
    let tasks = partitura.events().tasks::<TextStub>("audit").await.expect("a subscription");
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let of_workflows = heard.clone();
    let workflows = workflows.process(move |event: CloudEvent<EventKind>| {
        let heard = of_workflows.clone();
        async move { heard.send((event.kind, event.id)) }
    });
    let tasks = tasks.process(move |event: CloudEvent<TaskEvent>| {
        let heard = heard.clone();
        async move { heard.send((event.kind, event.id)) }
    });
    let listening = tokio::spawn(workflows.run_until(std::future::pending::<()>()));
    let listening_too = tokio::spawn(tasks.run_until(std::future::pending::<()>()));
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Three>();
    let worker = worker.start().await.expect("a worker");
    let three = partitura.client().workflow::<Three>("t");
    three.start("x".into()).await.expect("started");
    soon(three.result()).await.expect("a result");
    // Delivered at least once: ids tell.
    let mut kinds = std::collections::HashMap::new();
    let count = |kinds: &std::collections::HashMap<String, String>, kind: &str| {
        kinds.values().filter(|other| *other == kind).count()
    };
    while count(&kinds, "partitura.workflow.WorkflowCompleted") < 1 || count(&kinds, "partitura.task.completed") < 3 {
        let (kind, id) = soon(hearing.recv()).await.expect("an event");
        kinds.insert(id, kind);
    }
    assert_eq!(count(&kinds, "partitura.workflow.WorkflowStarted"), 1, "{kinds:?}");
    assert_eq!(count(&kinds, "partitura.task.completed"), 3, "{kinds:?}");
    listening.abort();
    listening_too.abort();
    worker.stop().await.expect("stopped");
}

pub(crate) async fn children_are_found_by_their_parent(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Keeps>().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    client.workflow::<Keeps>("k").start(()).await.expect("started");
    let of_parent = || client.instances().parent(InstanceName::new("Keeps", "k"));
    let found = eventually(async || {
        let found = of_parent().first(10).await.ok()?;
        (found.len() == 2).then_some(found)
    })
    .await;
    assert!(found.iter().all(|child| child.workflow == "Waits"), "{found:?}");
    for child in found {
        client.workflow::<Waits>(child.id).signal(WaitsSignal::release("go".into())).await.expect("sent");
    }
    assert_eq!(soon(client.workflow::<Keeps>("k").result()).await.expect("a result"), "go go");
    worker.stop().await.expect("stopped");
}

/// Waits for two children.
#[derive(Debug, Default)]
struct Keeps;

#[partitura::workflow]
impl Keeps {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        let failed = |error: partitura::ChildError<Oops>| Oops::Task(error.to_string());
        let (one, other) = (cx.child::<Waits>("one").start(()), cx.child::<Waits>("other").start(()));
        Ok(one.await.map_err(failed)? + " " + &other.await.map_err(failed)?)
    }
}

pub(crate) async fn all_instances_of_a_filter_are_cancelled_after_a_dry_run(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    for id in ["a", "b", "c"] {
        let tag = if id == "c" { "few" } else { "many" };
        soon(client.workflow::<Waits>(id).start(()).tag(tag).confirmed()).await.expect("started");
    }
    let many = client.instances().tag("many");
    let dry = soon(many.cancel("enough").dry_run().into_future()).await.expect("found");
    assert_eq!((dry.found, dry.done), (2, 0));
    assert_eq!(soon(many.cancel("enough").into_future()).await.expect("cancelled").done, 2);
    for id in ["a", "b"] {
        let ended = soon(client.workflow::<Waits>(id).result()).await;
        assert!(matches!(ended, Err(WorkflowError::Cancelled { .. })), "{ended:?}");
    }
    assert_eq!(soon(client.workflow::<Waits>("c").describe()).await.expect("known").status.kind(), StatusKind::Running);
    worker.stop().await.expect("stopped");
}
