//! Runs that follow each other: what goes along with the next one, and what ends with the last.

use partitura::history::EventKind;
use partitura::{
    Cx, ParentEnd, ReceiveError, Retry, Signal, UpdateError, WorkflowError, WorkflowHandle, millis, seconds,
};

use crate::booths::{Booth, BoothSignal, BoothUpdate, take};
use crate::stage::{Stage, forgetful};
use crate::support::{Oops, TextService, Texts, Waits, WaitsSignal, eventually, soon};

/// Leaves two children behind in its first run, and awaits one of the same id in the second.
#[derive(Debug, Default)]
struct Moves;

#[partitura::workflow]
impl Moves {
    #[run]
    async fn run(cx: Cx<Self>, is_first: bool) -> Result<String, Oops> {
        if !is_first {
            let child = cx.child::<Waits>("ends").run(()).await;
            return child.map_err(|error| Oops::Task(error.to_string()));
        }
        drop(cx.child::<Waits>("ends").start(()));
        drop(cx.child::<Waits>("stays").on_parent_end(ParentEnd::Abandon).start(()));
        cx.channel::<()>("move").recv().await.map_err(|error| Oops::Task(error.to_string()))?;
        cx.continue_as_new(false).await
    }
}

pub(crate) async fn the_children_of_a_run_end_with_it_unless_they_are_abandoned(stage: Stage) {
    let [partitura] = stage.processes(forgetful).await;
    let worker = partitura.worker().workflow::<Moves>().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let (moves, ends, stays) =
        (client.workflow::<Moves>("m"), client.workflow::<Waits>("ends"), client.workflow::<Waits>("stays"));
    moves.start(true).await.expect("started");
    let before = eventually(async || ends.describe().await.ok()).await.run;
    let stayed = eventually(async || stays.describe().await.ok()).await.run;
    moves.signal(Signal::to_channel("move", &())).await.expect("sent");
    eventually(async || (ends.describe().await.ok()?.run != before).then_some(())).await;
    let first = soon(client.instance("Waits", "ends").history_of_run(&before, 0, 100)).await.expect("a history");
    let end = first.events.last().map(|event| event.kind.clone());
    assert!(matches!(end, Some(EventKind::WorkflowCancelled { .. })), "{end:?}");
    assert_eq!(soon(stays.describe()).await.expect("known").run, stayed);
    for waits in [&ends, &stays] {
        waits.signal(WaitsSignal::release(waits.id().to_owned())).await.expect("sent");
        assert_eq!(soon(waits.result()).await.expect("a result"), waits.id());
    }
    assert_eq!(soon(moves.result()).await.expect("a result"), "ends");
    worker.stop().await.expect("stopped");
}

/// Waits until the history of the present run has an update of this name.
async fn has_begun(booth: &WorkflowHandle<Booth>, update: &str) {
    let is_it = |kind: &EventKind| matches!(kind, EventKind::UpdateReceived { name, .. } if name == update);
    eventually(async || booth.history().await.ok()?.iter().any(|event| is_it(&event.kind)).then_some(())).await;
}

pub(crate) async fn updates_are_answered_once_by_all_runs_together(stage: Stage) {
    let [partitura] = stage.processes(forgetful).await;
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Booth>();
    let worker = worker.start().await.expect("a worker");
    let booth = partitura.client().workflow::<Booth>("b");
    booth.start(false).await.expect("started");
    assert_eq!(soon(booth.update(take("a")).id("first").into_future()).await.expect("taken"), 1);
    let run = soon(booth.describe()).await.expect("known").run;
    let go_on = async {
        has_begun(&booth, "think").await;
        booth.signal(BoothSignal::close("for today".into())).await.expect("sent");
    };
    let (thought, ()) = tokio::join!(soon(booth.update(BoothUpdate::think("tea".into())).into_future()), go_on);
    assert!(matches!(&thought, Err(UpdateError::Interrupted { run: of }) if *of == run), "{thought:?}");
    // The next run has no text yet, and knows the answer to the first update.
    assert_eq!(soon(booth.update(take("b")).id("second").into_future()).await.expect("taken"), 1);
    assert_eq!(soon(booth.update(take("b")).id("third").into_future()).await.expect("taken"), 2);
    assert_eq!(soon(booth.update(take("b")).id("first").into_future()).await.expect("taken then"), 1);
    assert_ne!(soon(booth.describe()).await.expect("known").run, run);
    booth.signal(BoothSignal::close("for good".into())).await.expect("sent");
    assert_eq!(soon(booth.result()).await.expect("a result"), ["b.", "b."]);
    worker.stop().await.expect("stopped");
}

/// Goes on and on.
#[derive(Debug, Default)]
struct Endless;

#[partitura::workflow]
impl Endless {
    #[run]
    async fn run(cx: Cx<Self>, turn: u32) -> Result<u32, Oops> {
        cx.sleep(millis(300)).await?;
        cx.continue_as_new(turn + 1).await
    }
}

pub(crate) async fn a_chain_of_runs_has_one_time_together(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Endless>().start().await.expect("a worker");
    let endless = partitura.client().workflow::<Endless>("e");
    // Each run is begun anew within its own time.
    endless.start(0).timeout(seconds(2)).run_timeout(seconds(60)).await.expect("started");
    assert!(matches!(soon(endless.result()).await, Err(WorkflowError::TimedOut(_))));
    assert!(soon(endless.describe()).await.expect("known").first_run.is_some(), "it never continued");
    worker.stop().await.expect("stopped");
}

/// Fails in the first attempt at each of two stages.
#[derive(Debug, Default)]
struct Stumbles;

#[partitura::workflow(retry = Retry::fixed(millis(1)).max_attempts(2))]
impl Stumbles {
    #[run]
    async fn run(cx: Cx<Self>, attempts: Vec<u32>) -> Result<Vec<u32>, Oops> {
        if cx.attempt() == 1 {
            return Err(Oops::Busy);
        }
        let attempts = [attempts, vec![cx.attempt()]].concat();
        if attempts.len() == 2 { Ok(attempts) } else { cx.continue_as_new(attempts).await }
    }
}

pub(crate) async fn attempts_are_counted_anew_once_a_run_has_continued(stage: Stage) {
    let [partitura] = stage.processes(forgetful).await;
    let worker = partitura.worker().workflow::<Stumbles>().start().await.expect("a worker");
    let stumbles = partitura.client().workflow::<Stumbles>("s");
    stumbles.start(Vec::new()).await.expect("started");
    assert_eq!(soon(stumbles.result()).await.expect("a result"), [2, 2]);
    worker.stop().await.expect("stopped");
}

/// Says whom it is about in its first run, and takes two numbers in three runs.
#[derive(Debug, Default)]
struct Files;

#[partitura::workflow]
impl Files {
    #[run]
    async fn run(cx: Cx<Self>, taken: Vec<u32>) -> Result<Vec<u32>, ReceiveError> {
        if taken.is_empty() {
            cx.set_attribute("customer", "acme");
        }
        if taken.len() == 2 {
            return Ok(taken);
        }
        let next = cx.channel::<u32>("number").recv().await?;
        cx.continue_as_new([taken, vec![next]].concat()).await
    }
}

pub(crate) async fn tags_and_attributes_go_along_and_each_run_is_read_by_itself(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Files>().start().await.expect("a worker");
    let (client, files) = (partitura.client(), partitura.client().workflow::<Files>("f"));
    files.start(Vec::new()).tag("vip").await.expect("started");
    for number in [1_u32, 2] {
        files.signal(Signal::to_channel("number", &number)).await.expect("sent");
    }
    assert_eq!(soon(files.result()).await.expect("a result"), [1, 2]);
    let found = soon(client.instances().tag("vip").attribute("customer", "acme").first(9)).await.expect("found");
    assert_eq!(found.iter().map(|summary| &*summary.id).collect::<Vec<_>>(), ["f"], "an instance counts once");
    let instance = client.instance("Files", "f");
    let runs = soon(instance.runs()).await.expect("known");
    assert_eq!((runs.len(), runs.contains(&found[0].run)), (3, true), "{runs:?}");
    for run in &runs {
        let last = soon(instance.last_events_of_run(run, 1)).await.expect("a history");
        let is_last = matches!(last.events[0].kind, EventKind::WorkflowCompleted { .. });
        assert_eq!((is_last, last.first), (*run == found[0].run, last.total - 1), "{last:?}");
    }
    worker.stop().await.expect("stopped");
}
