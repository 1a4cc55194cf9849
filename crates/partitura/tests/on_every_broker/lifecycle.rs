//! Starting, finding, asking, cancelling and ending instances.

use partitura::{ClientError, Cx, Filter, StartPolicy, Status, StatusKind, WorkflowError, minutes, seconds};

use crate::stage::Stage;
use crate::support::{Oops, Waits, WaitsQuery, WaitsSignal, eventually, soon};

pub(crate) async fn starting_twice_is_starting_once(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let (first, second) = (client.workflow::<Waits>("same"), client.workflow::<Waits>("same"));
    first.start(()).await.expect("started");
    second.start(()).await.expect("taken as it is");
    first.signal(WaitsSignal::release("once".into())).await.expect("sent");
    assert_eq!(soon(first.result()).await.expect("a result"), "once");
    assert_eq!(soon(second.result()).await.expect("a result"), "once");
    let third = client.workflow::<Waits>("same");
    third.start(()).await.expect("it has ended, and is taken as it is");
    assert_eq!(soon(third.result()).await.expect("a result"), "once");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_start_can_insist_on_a_new_instance(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let first = client.workflow::<Waits>("same");
    first.start(()).policy(StartPolicy::Reject).await.expect("started");
    let first = soon(first.describe()).await.expect("known").run;
    let refused = client.workflow::<Waits>("same").start(()).policy(StartPolicy::Reject).await;
    match refused.expect_err("it exists") {
        ClientError::AlreadyExists { id, run, .. } => assert_eq!((id.as_str(), run), ("same", first)),
        other => panic!("{other}"),
    }
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_start_can_replace_a_running_instance(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let old = client.workflow::<Waits>("same");
    old.start(()).await.expect("started");
    let new = client.workflow::<Waits>("same");
    new.start(()).policy(StartPolicy::Replace).await.expect("started anew");
    assert!(matches!(soon(old.result()).await, Err(WorkflowError::Terminated(_))));
    new.signal(WaitsSignal::release("new".into())).await.expect("sent");
    assert_eq!(soon(new.result()).await.expect("a result"), "new");
    // And one that has ended.
    let third = client.workflow::<Waits>("same");
    third.start(()).policy(StartPolicy::Replace).await.expect("started anew");
    assert_eq!(soon(third.describe()).await.expect("known").status, Status::Running);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn what_has_ended_is_deleted_when_its_time_is_over(stage: Stage) {
    let [partitura] = stage.processes(|settings| settings.retention(seconds(2))).await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let (ends, lives) = (client.workflow::<Waits>("ends"), client.workflow::<Waits>("lives"));
    for waits in [&ends, &lives] {
        waits.start(()).await.expect("started");
    }
    ends.signal(WaitsSignal::release("it".into())).await.expect("sent");
    assert_eq!(soon(ends.result()).await.expect("a result"), "it");
    let gone = async || match ends.describe().await {
        Err(ClientError::NotFound { .. }) => Some(()),
        _ => None,
    };
    eventually(gone).await;
    assert_eq!(soon(lives.describe()).await.expect("it has not ended").status, Status::Running);
    ends.start(()).await.expect("its id is free");
    ends.signal(WaitsSignal::release("again".into())).await.expect("sent");
    assert_eq!(soon(ends.result()).await.expect("a result"), "again");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_query_reads_the_state_of_a_running_instance(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("asked");
    let missing = soon(waits.query(WaitsQuery::is_released())).await;
    assert!(matches!(missing, Err(ClientError::NotFound { .. })), "{missing:?}");
    waits.start(()).await.expect("started");
    assert!(!soon(waits.query(WaitsQuery::is_released())).await.expect("an answer"));
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_cancelled_workflow_ends_as_cancelled(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("cancelled");
    waits.start(()).await.expect("started");
    waits.cancel("nobody wants it").await.expect("sent");
    match soon(waits.result()).await {
        Err(WorkflowError::Cancelled { reason, .. }) => assert_eq!(reason, "nobody wants it"),
        other => panic!("{other:?}"),
    }
    assert_eq!(soon(waits.describe()).await.expect("known").status, Status::Cancelled);
    worker.stop().await.expect("stopped");
}

#[derive(Debug, Default)]
struct ParentOfWaits;

#[partitura::workflow]
impl ParentOfWaits {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        cx.child::<Waits>("child").run(()).await.map_err(|error| Oops::Task(error.to_string()))
    }
}

pub(crate) async fn cancelling_reaches_the_children(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().workflow::<ParentOfWaits>().start().await.expect("a worker");
    let client = partitura.client();
    let (parent, child) = (client.workflow::<ParentOfWaits>("parent"), client.workflow::<Waits>("child"));
    parent.start(()).await.expect("started");
    eventually(|| async { child.describe().await.ok() }).await;
    parent.cancel("enough").await.expect("sent");
    assert!(matches!(soon(parent.result()).await, Err(WorkflowError::Cancelled { .. })));
    assert!(matches!(soon(child.result()).await, Err(WorkflowError::Cancelled { .. })));
    worker.stop().await.expect("stopped");
}

pub(crate) async fn terminating_a_parent_cancels_its_children(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().workflow::<ParentOfWaits>().start().await.expect("a worker");
    let client = partitura.client();
    let (parent, child) = (client.workflow::<ParentOfWaits>("parent"), client.workflow::<Waits>("child"));
    parent.start(()).await.expect("started");
    eventually(|| async { child.describe().await.ok() }).await;
    parent.terminate("now").await.expect("sent");
    assert!(matches!(soon(parent.result()).await, Err(WorkflowError::Terminated(_))));
    assert!(matches!(soon(child.result()).await, Err(WorkflowError::Cancelled { .. })));
    worker.stop().await.expect("stopped");
}

pub(crate) async fn instances_are_listed_by_status_and_tag_page_by_page(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    for i in 0..25 {
        let tag = if i % 2 == 0 { "even" } else { "odd" };
        client.workflow::<Waits>(format!("{i:02}")).start(()).tag(tag).await.expect("started");
    }
    let first = client.workflow::<Waits>("00");
    first.signal(WaitsSignal::release("x".into())).await.expect("sent");
    soon(first.result()).await.expect("a result");
    for i in 0..25 {
        soon(client.workflow::<Waits>(format!("{i:02}")).describe()).await.expect("known");
    }
    let ids = |summaries: Vec<partitura::Summary>| summaries.into_iter().map(|s| s.id).collect::<Vec<_>>();
    let page = soon(client.list::<Waits>(Filter::first(10))).await.expect("a list");
    assert_eq!(ids(page), (0..10).map(|i| format!("{i:02}")).collect::<Vec<_>>());
    let page = soon(client.list::<Waits>(Filter::first(100).after("09"))).await.expect("a list");
    assert_eq!(page.len(), 15);
    let odd = soon(client.list::<Waits>(Filter::first(100).tag("odd"))).await.expect("a list");
    assert_eq!(odd.len(), 12);
    let done = soon(client.list::<Waits>(Filter::first(100).status(StatusKind::Completed))).await.expect("a list");
    assert_eq!(ids(done), ["00"]);
    worker.stop().await.expect("stopped");
}

#[derive(Debug, Default)]
struct SleepsLong;

#[partitura::workflow]
impl SleepsLong {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        cx.sleep(minutes(60)).await?;
        Ok(())
    }
}

pub(crate) async fn the_history_tells_what_happened(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<SleepsLong>().start().await.expect("a worker");
    let sleeps = partitura.client().workflow::<SleepsLong>("s");
    sleeps.start(()).await.expect("started");
    let history = soon(sleeps.history()).await.expect("a history");
    let said: Vec<String> = history.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].starts_with("TimerStarted"), "{said:?}");
    worker.stop().await.expect("stopped");
}

/// Adds numbers up to five.
#[derive(Debug, Default)]
struct Adds {
    sum: u32,
}

#[partitura::workflow]
impl Adds {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        Ok(cx.until(|adds: &Adds| adds.sum >= 5).await?)
    }

    #[signal]
    fn add(&mut self, number: u32) {
        self.sum += number;
    }

    #[query]
    fn sum(&self) -> u32 {
        self.sum
    }
}

pub(crate) async fn a_query_of_an_instance_that_has_ended_reads_its_last_state(stage: Stage) {
    let [first, second] = stage.processes(|settings| settings).await;
    let worker = first.worker().workflow::<Adds>().start().await.expect("a worker");
    let client = second.client();
    let (done, dropped) = (client.workflow::<Adds>("done"), client.workflow::<Adds>("dropped"));
    for adds in [&done, &dropped] {
        soon(adds.start(()).confirmed()).await.expect("started");
        soon(adds.signal(AddsSignal::add(3)).confirmed().into_future()).await.expect("recorded");
    }
    soon(dropped.terminate("not wanted").confirmed().into_future()).await.expect("ended");
    soon(done.signal(AddsSignal::add(4)).confirmed().into_future()).await.expect("recorded");
    soon(done.result()).await.expect("a result");
    for (adds, sum) in [(&done, 7), (&dropped, 3)] {
        assert_eq!(soon(adds.query(AddsQuery::sum())).await.expect("an answer"), sum);
    }
    // The next worker reads it in the store.
    worker.stop().await.expect("stopped");
    let worker = second.worker().workflow::<Adds>().start().await.expect("a worker");
    assert_eq!(soon(done.query(AddsQuery::sum())).await.expect("an answer"), 7);
    let unknown = soon(client.instance("Adds", "done").query("none", &())).await.expect_err("no such query");
    assert!(unknown.to_string().contains("none"), "{unknown}");
    soon(done.delete().confirmed().into_future()).await.expect("deleted");
    assert!(matches!(soon(done.query(AddsQuery::sum())).await, Err(ClientError::NotFound { .. })));
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_signal_reaches_all_instances_of_a_tag_once(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    for id in 0..30 {
        let tag = if id < 20 { "many" } else { "few" };
        soon(client.workflow::<Waits>(format!("w{id}")).start(()).tag(tag).confirmed()).await.expect("started");
    }
    let (many, few) = (client.instances().tag("many"), client.instances().tag("few"));
    let typed = |text: &str| many.signal_all_of(WaitsSignal::release(text.to_owned())).expect("JSON").id("news");
    assert_eq!(soon(typed("yes").dry_run().into_future()).await.expect("found").found, 20);
    assert_eq!(soon(typed("yes").into_future()).await.expect("sent").done, 20);
    let untyped = few.signal_all("release", &serde_json::json!({ "with": "tea" })).expect("JSON");
    assert_eq!(soon(untyped.into_future()).await.expect("sent").done, 10);
    for id in 0..30 {
        let expected = if id < 20 { "yes" } else { "tea" };
        assert_eq!(soon(client.workflow::<Waits>(format!("w{id}")).result()).await.expect("a result"), expected);
    }
    // None of them is left.
    assert_eq!(soon(typed("again").into_future()).await.expect("nothing to do").found, 0);
    worker.stop().await.expect("stopped");
}
