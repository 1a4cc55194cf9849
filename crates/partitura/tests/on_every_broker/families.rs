//! Parents and children: how a parent hears of the end of a child, and what becomes of children in a reset.

use partitura::history::EventKind;
use partitura::{ChildError, Cx, Waiting, WorkflowError, seconds};

use crate::stage::{Stage, forgetful};
use crate::support::{Oops, Waits, WaitsSignal, eventually, soon};

/// Awaits one instance, which it starts if it is not there.
#[derive(Debug, Default)]
struct Awaits;

#[partitura::workflow]
impl Awaits {
    #[run]
    async fn run(cx: Cx<Self>, child: String) -> Result<String, ChildError<Oops>> {
        cx.child::<Waits>(child).use_existing().run(()).await
    }
}

pub(crate) async fn a_parent_hears_how_others_ended_its_child(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Awaits>().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let late = client.workflow::<Waits>("late");
    soon(late.start(()).timeout(seconds(2)).confirmed()).await.expect("started");
    let is_child = |waiting: &Waiting| matches!(waiting, Waiting::Child { .. });
    for end in ["cancelled", "terminated", "late"] {
        let (parent, child) = (client.workflow::<Awaits>(end), client.workflow::<Waits>(end));
        parent.start(end.to_owned()).await.expect("started");
        eventually(async || parent.describe().await.ok()?.waiting.iter().any(is_child).then_some(())).await;
        eventually(async || child.describe().await.ok()).await;
        match end {
            "cancelled" => child.cancel("not wanted").await.expect("sent"),
            "terminated" => child.terminate("not wanted").await.expect("sent"),
            _ => {}
        }
        let ended = soon(parent.result()).await;
        match (end, &ended) {
            ("cancelled", Err(WorkflowError::Failed(ChildError::Cancelled))) => {}
            ("terminated", Err(WorkflowError::Failed(ChildError::Terminated(reason)))) if reason == "not wanted" => {}
            ("late", Err(WorkflowError::Failed(ChildError::TimedOut))) => {}
            _ => panic!("{end}: {ended:?}"),
        }
    }
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_reset_starts_open_children_anew(stage: Stage) {
    let [partitura] = stage.processes(forgetful).await;
    let worker = partitura.worker().workflow::<Begets>().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let (parent, child) = (client.workflow::<Begets>("p"), client.workflow::<Waits>("c"));
    parent.start(()).await.expect("started");
    let before = eventually(async || child.describe().await.ok()).await.run;
    let history = soon(parent.history()).await.expect("a history");
    let started = history.iter().position(|event| matches!(event.kind, EventKind::ChildStarted { .. }));
    let events = started.expect("a child was started") + 1;
    soon(client.instance("Begets", "p").reset(events, "try another child")).await.expect("reset");
    eventually(async || child.describe().await.ok().filter(|found| found.run != before)).await;
    child.signal(WaitsSignal::release("new".into())).await.expect("sent");
    assert_eq!(soon(parent.result()).await.expect("a result"), "new");
    worker.stop().await.expect("stopped");
}

/// Has one child.
#[derive(Debug, Default)]
struct Begets;

#[partitura::workflow]
impl Begets {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        cx.child::<Waits>("c").run(()).await.map_err(|error| Oops::Task(error.to_string()))
    }
}

/// Awaits many children at once.
#[derive(Debug, Default)]
struct Crowd;

#[partitura::workflow]
impl Crowd {
    #[run]
    async fn run(cx: Cx<Self>, count: u32) -> Result<u32, Oops> {
        if count == 0 {
            return Ok(1);
        }
        let children = (0..count).map(|number| cx.child::<Crowd>(format!("{number}")).run(0));
        let counted = partitura::join_all(children.collect::<Vec<_>>()).await;
        counted.into_iter().map(|one| one.map_err(|error| Oops::Task(error.to_string()))).sum()
    }
}

pub(crate) async fn a_hundred_children_report_to_one_parent(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Crowd>().start().await.expect("a worker");
    let crowd = partitura.client().workflow::<Crowd>("parent");
    crowd.start(100).await.expect("started");
    assert_eq!(soon(crowd.result()).await.expect("a result"), 100);
    let history = soon(crowd.history()).await.expect("a history");
    let told = history.iter().filter(|event| matches!(event.kind, EventKind::ChildCompleted { .. })).count();
    assert_eq!(told, 100, "each once");
    worker.stop().await.expect("stopped");
}
