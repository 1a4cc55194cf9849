//! Children that meet, tasks that are let go or given up, histories that are replayed, and schedules that are changed.

use partitura::{Cx, ParentEnd, Signal, TaskError, Waiting, WorkflowError, hours, jiff::Timestamp, minutes, seconds};

use crate::schedules::Beat;
use crate::stage::Stage;
use crate::support::{Oops, TextService, TextStub, Texts, Three, Waits, WaitsSignal, eventually, soon};

/// Starts a child under an id that may be taken.
#[derive(Debug, Default)]
struct Guest;

#[partitura::workflow]
impl Guest {
    #[run]
    async fn run(cx: Cx<Self>, replaces: bool) -> Result<String, Oops> {
        let child = cx.child::<Waits>("taken").on_parent_end(ParentEnd::Abandon);
        let child = if replaces { child.replace_existing() } else { child.use_existing() };
        child.run(()).await.map_err(|error| Oops::Task(error.to_string()))
    }
}

pub(crate) async fn a_child_uses_or_replaces_what_has_its_id(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Guest>().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    let taken = client.workflow::<Waits>("taken");
    let first = soon(taken.start(()).confirmed()).await.expect("started").run;
    let (uses, replaces) = (client.workflow::<Guest>("uses"), client.workflow::<Guest>("replaces"));
    uses.start(false).await.expect("started");
    let child = |kind: &Waiting| matches!(kind, Waiting::Child { .. });
    eventually(async || uses.describe().await.ok()?.waiting.iter().any(child).then_some(())).await;
    soon(taken.signal(WaitsSignal::release("used".into())).confirmed().into_future()).await.expect("taken");
    assert_eq!(soon(uses.result()).await.expect("a result"), "used");
    replaces.start(true).await.expect("started");
    eventually(async || (taken.describe().await.ok()?.run != first).then_some(())).await;
    soon(taken.signal(WaitsSignal::release("new".into())).confirmed().into_future()).await.expect("taken");
    assert_eq!(soon(replaces.result()).await.expect("a result"), "new");
    worker.stop().await.expect("stopped");
}

/// Gives one task up, and lets another go that notes something.
#[derive(Debug, Default)]
struct LetsGo;

#[partitura::workflow]
impl LetsGo {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<bool, Oops> {
        let texts = cx.service::<TextStub>();
        let hanging = texts.hang().start();
        hanging.cancel();
        texts.note(cx.id().to_owned()).start().detach().map_err(|error| Oops::Task(error.to_string()))?;
        Ok(matches!(hanging.await, Err(TaskError::Cancelled)))
    }
}

pub(crate) async fn a_task_is_cancelled_and_another_outlives_its_workflow(stage: Stage) {
    let partitura = stage.application().await;
    let texts = Texts::default();
    let worker = partitura.worker().service(TextService(texts.clone())).workflow::<LetsGo>();
    let worker = worker.start().await.expect("a worker");
    let lets_go = partitura.client().workflow::<LetsGo>("l");
    lets_go.start(()).await.expect("started");
    assert!(soon(lets_go.result()).await.expect("a result"));
    eventually(async || (texts.notes.lock().ok()?[..] == ["l"]).then_some(())).await;
    worker.stop().await.expect("stopped");
}

/// Cleans up under a shield when it is cancelled.
#[derive(Debug, Default)]
struct Careful;

#[partitura::workflow]
impl Careful {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let waited = cx.sleep(hours(1)).await;
        cx.shielded(async { cx.service::<TextStub>().note("clean".into()).await }).await?;
        Ok(waited?)
    }
}

pub(crate) async fn what_is_shielded_runs_though_its_workflow_is_cancelled(stage: Stage) {
    let partitura = stage.application().await;
    let texts = Texts::default();
    let worker = partitura.worker().service(TextService(texts.clone())).workflow::<Careful>();
    let worker = worker.start().await.expect("a worker");
    let careful = partitura.client().workflow::<Careful>("c");
    soon(careful.start(()).confirmed()).await.expect("started");
    soon(careful.cancel("enough").confirmed().into_future()).await.expect("taken");
    let ended = soon(careful.result()).await;
    assert!(matches!(ended, Err(WorkflowError::Cancelled { .. })), "{ended:?}");
    assert_eq!(texts.notes.lock().expect("notes")[..], ["clean"]);
    worker.stop().await.expect("stopped");
}

/// Would undo its first task, and succeeds.
#[derive(Debug, Default)]
struct Succeeds;

#[partitura::workflow]
impl Succeeds {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let texts = cx.service::<TextStub>();
        let mut saga = cx.saga();
        texts.note("done".into()).await?;
        saga.on_failure(texts.note("undone".into()));
        texts.note("done too".into()).await?;
        saga.complete();
        Ok(())
    }
}

pub(crate) async fn a_workflow_that_succeeds_undoes_nothing(stage: Stage) {
    let partitura = stage.application().await;
    let texts = Texts::default();
    let worker = partitura.worker().service(TextService(texts.clone())).workflow::<Succeeds>();
    let worker = worker.start().await.expect("a worker");
    let succeeds = partitura.client().workflow::<Succeeds>("s");
    succeeds.start(()).await.expect("started");
    soon(succeeds.result()).await.expect("a result");
    assert_eq!(texts.notes.lock().expect("notes")[..], ["done", "done too"]);
    worker.stop().await.expect("stopped");
}

/// Waits for a timer and a word.
#[derive(Debug, Default)]
struct Idle;

#[partitura::workflow]
impl Idle {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        let _timer = cx.sleep(minutes(60)).start();
        cx.channel::<String>("word").recv().await.map_err(|error| Oops::Task(error.to_string()))
    }
}

pub(crate) async fn an_instance_says_what_it_waits_for(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Idle>().start().await.expect("a worker");
    let idle = partitura.client().workflow::<Idle>("i");
    idle.start(()).await.expect("started");
    let described = soon(idle.describe()).await.expect("known");
    let is_word = |waiting: &Waiting| matches!(waiting, Waiting::Channel { name } if name == "word");
    let is_timer = |waiting: &Waiting| matches!(waiting, Waiting::Timer { .. });
    assert!(described.waiting.iter().any(is_word) && described.waiting.iter().any(is_timer), "{described:?}");
    idle.signal(Signal::to_channel("word", &"go".to_owned())).await.expect("sent");
    assert_eq!(soon(idle.result()).await.expect("a result"), "go");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_history_is_replayed_against_the_code_of_today(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Three>();
    let worker = worker.start().await.expect("a worker");
    let three = partitura.client().workflow::<Three>("t");
    three.start("x".into()).await.expect("started");
    soon(three.result()).await.expect("a result");
    let history = serde_json::to_string(&soon(three.history()).await.expect("a history")).expect("text");
    partitura::testing::replay::<Three>(&history).expect("the same code does the same");
    let changed = partitura::testing::replay::<Succeeds>(&history).expect_err("other code does not");
    assert!(!changed.is_empty());
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_terminated_instance_runs_no_more_of_its_code(stage: Stage) {
    let partitura = stage.application().await;
    let texts = Texts::default();
    let worker = partitura.worker().service(TextService(texts.clone())).workflow::<Careful>();
    let worker = worker.start().await.expect("a worker");
    let careful = partitura.client().workflow::<Careful>("c");
    soon(careful.start(()).confirmed()).await.expect("started");
    soon(careful.terminate("at once").confirmed().into_future()).await.expect("taken");
    let ended = soon(careful.result()).await;
    assert!(matches!(&ended, Err(WorkflowError::Terminated(reason)) if reason == "at once"), "{ended:?}");
    assert!(texts.notes.lock().expect("notes").is_empty());
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_schedule_is_triggered_updated_and_listed(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Beat>().schedules().start().await.expect("a worker");
    let (client, rare) = (partitura.client(), partitura.client().schedule("rare"));
    rare.cron("0 0 29 2 *").start::<Beat>(1).await.expect("started");
    soon(rare.trigger()).await.expect("taken");
    let started =
        async |count: u64| eventually(async || rare.describe().await.ok().filter(|found| found.started == count)).await;
    started(1).await;
    assert_eq!(soon(client.schedules()).await.expect("listed"), ["rare"]);
    rare.every(seconds(1)).at_most(2).update::<Beat>(2).await.expect("updated");
    let found = eventually(async || {
        let found = rare.describe().await.ok()?;
        (found.remaining == Some(0) && found.running.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(found.started, 3);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_span_of_the_past_is_made_up_for(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Beat>().schedules().start().await.expect("a worker");
    let daily = partitura.client().schedule("daily");
    daily.cron("0 12 * * *").start::<Beat>(1).await.expect("started");
    let [from, to] =
        ["2020-01-01T00:00:00Z", "2020-01-04T00:00:00Z"].map(|time| time.parse::<Timestamp>().expect("a time"));
    soon(daily.backfill(from, to, partitura::Overlap::BufferAll)).await.expect("taken");
    let found = eventually(async || {
        let found = daily.describe().await.ok()?;
        (found.started >= 3 && found.running.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(found.started, 3, "{found:?}");
    worker.stop().await.expect("stopped");
}
