//! The features of workflow code, each in the smallest workflow that shows it.

use partitura::{Cx, Signal, WorkflowError, join_all, millis, minutes, select};

use crate::stage::Stage;
use crate::support::{Oops, TextService, TextStub, Texts, Three, Waits, WaitsSignal, soon};

/// Runs one instance of `$workflow` beside the [`Text`] service.
macro_rules! outcome_of {
    ($stage:expr, $workflow:ty, $input:expr $(, also $other:ty)*) => {{
        let partitura = $stage.application().await;
        let worker = partitura.worker().service(TextService(Texts::default())).workflow::<$workflow>()$(.workflow::<$other>())*;
        let worker = worker.start().await.expect("a worker");
        let handle = partitura.client().workflow::<$workflow>("one");
        handle.start($input).await.expect("started");
        let outcome = soon(handle.result()).await;
        worker.stop().await.expect("stopped");
        outcome
    }};
}

pub(crate) async fn tasks_run_one_after_the_other(stage: Stage) {
    assert_eq!(outcome_of!(stage, Three, "abc".to_owned()).expect("a result"), "abc...");
}

#[derive(Debug, Default)]
struct Wide;

#[partitura::workflow]
impl Wide {
    #[run]
    async fn run(cx: Cx<Self>, tasks: usize) -> Result<usize, Oops> {
        let texts = cx.service::<TextStub>();
        let results = join_all((0..tasks).map(|i| texts.dot(i.to_string()))).await;
        results.into_iter().map(|result| Ok(result?.len())).sum()
    }
}

pub(crate) async fn many_tasks_run_at_once_and_are_joined(stage: Stage) {
    let lengths: usize = (0..300).map(|i: usize| i.to_string().len() + 1).sum();
    assert_eq!(outcome_of!(stage, Wide, 300).expect("a result"), lengths);
}

#[derive(Debug, Default)]
struct OutOfOrder;

#[partitura::workflow]
impl OutOfOrder {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        let texts = cx.service::<TextStub>();
        let first = texts.dot("1".into()).start();
        let second = texts.dot("2".into()).start();
        let second = second.await?;
        Ok(second + &first.await?)
    }
}

pub(crate) async fn tasks_that_were_started_are_awaited_in_any_order(stage: Stage) {
    assert_eq!(outcome_of!(stage, OutOfOrder, ()).expect("a result"), "2.1.");
}

#[derive(Debug, Default)]
struct Races;

#[partitura::workflow]
impl Races {
    #[run]
    async fn run(cx: Cx<Self>, task_first: bool) -> Result<String, Oops> {
        let texts = cx.service::<TextStub>();
        if task_first {
            select! {
                dotted = texts.dot("task".into()) => return Ok(dotted?),
                _ = cx.sleep(minutes(10)) => return Ok("timer".into()),
            }
        }
        select! {
            _ = texts.hang() => Ok("task".into()),
            _ = cx.sleep(millis(5)) => Ok("timer".into()),
        }
    }
}

pub(crate) async fn a_task_and_a_timer_race_and_the_first_wins(stage: Stage) {
    assert_eq!(outcome_of!(stage, Races, true).expect("a result"), "task.");
    assert_eq!(outcome_of!(stage, Races, false).expect("a result"), "timer");
}

#[derive(Debug, Default)]
struct Child;

#[partitura::workflow]
impl Child {
    #[run]
    async fn run(cx: Cx<Self>, fail: bool) -> Result<String, Oops> {
        if fail { Err(Oops::No("child".into())) } else { Ok(cx.id().to_owned()) }
    }
}

#[derive(Debug, Default)]
struct Parent;

#[partitura::workflow]
impl Parent {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(String, String), Oops> {
        let fine = cx.child::<Child>("fine").run(false).await.map_err(|error| Oops::Task(error.to_string()))?;
        let failed = cx.child::<Child>("failed").run(true).await;
        Ok((fine, failed.expect_err("it fails").to_string()))
    }
}

pub(crate) async fn a_parent_gets_the_results_and_the_errors_of_its_children(stage: Stage) {
    let (fine, failed) = outcome_of!(stage, Parent, (), also Child).expect("a result");
    assert_eq!((fine.as_str(), failed.as_str()), ("fine", "no: child"));
}

#[derive(Debug, Default)]
struct SameChildTwice;

#[partitura::workflow]
impl SameChildTwice {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        let _first = cx.child::<Child>("same").run(false).await;
        let second = cx.child::<Child>("same").run(false).await;
        Ok(second.expect_err("the id is taken").to_string())
    }
}

pub(crate) async fn a_child_whose_id_is_taken_fails_in_the_parent(stage: Stage) {
    let message = outcome_of!(stage, SameChildTwice, (), also Child).expect("a result");
    assert!(message.contains("exists already"), "{message}");
}

#[derive(Debug, Default)]
struct Steps;

#[partitura::workflow]
impl Steps {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, Oops> {
        let one = cx.step("one", async {
            tokio::time::sleep(millis(1)).await;
            Ok::<_, Oops>(1)
        });
        let one = one.await?;
        let failed = cx.step("two", async { Err::<u32, _>(Oops::Busy) }).await;
        assert!(failed.is_err());
        Ok(one + 1)
    }
}

pub(crate) async fn inline_steps_run_on_the_runtime_and_are_recorded(stage: Stage) {
    assert_eq!(outcome_of!(stage, Steps, ()).expect("a result"), 2);
}

#[derive(Debug, Default)]
struct Compensates;

#[partitura::workflow]
impl Compensates {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let texts = cx.service::<TextStub>();
        let mut saga = cx.saga();
        for step in ["a", "b", "c"] {
            texts.note(format!("do {step}")).await?;
            saga.on_failure(texts.note(format!("undo {step}")));
        }
        texts.refuse("stop".into()).await?;
        Ok(())
    }
}

pub(crate) async fn a_failed_workflow_runs_its_compensations_in_reverse(stage: Stage) {
    let partitura = stage.application().await;
    let texts = Texts::default();
    let worker = partitura.worker().service(TextService(texts.clone())).workflow::<Compensates>();
    let worker = worker.start().await.expect("a worker");
    let handle = partitura.client().workflow::<Compensates>("saga");
    handle.start(()).await.expect("started");
    let error = soon(handle.result()).await.expect_err("it fails");
    assert!(matches!(error, WorkflowError::Failed(Oops::Task(_))), "{error}");
    assert_eq!(*texts.notes.lock().expect("notes"), ["do a", "do b", "do c", "undo c", "undo b", "undo a"]);
    worker.stop().await.expect("stopped");
}

#[derive(Debug, Default)]
struct Receives;

#[partitura::workflow]
impl Receives {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<Vec<u32>, Oops> {
        let numbers = cx.channel::<u32>("numbers");
        let mut got = Vec::new();
        for _ in 0..3 {
            got.push(numbers.recv().await.map_err(|error| Oops::Task(error.to_string()))?);
        }
        Ok(got)
    }
}

pub(crate) async fn signals_to_a_channel_are_kept_in_order_also_when_they_come_early(stage: Stage) {
    let partitura = stage.application().await;
    let handle = partitura.client().workflow::<Receives>("channel");
    handle.start(()).await.expect("started");
    for number in 1..=3u32 {
        handle.signal(Signal::to_channel("numbers", &number)).await.expect("sent");
    }
    let worker = partitura.worker().workflow::<Receives>().start().await.expect("a worker");
    assert_eq!(soon(handle.result()).await.expect("a result"), [1, 2, 3]);
    worker.stop().await.expect("stopped");
}

#[derive(Debug, Default)]
struct Releases;

#[partitura::workflow]
impl Releases {
    #[run]
    async fn run(cx: Cx<Self>, whom: String) -> Result<(), Oops> {
        cx.signal::<Waits>(whom, WaitsSignal::release("by another".into())).expect("an id");
        Ok(())
    }
}

pub(crate) async fn a_workflow_signals_another(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().workflow::<Releases>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("waits");
    waits.start(()).await.expect("started");
    partitura.client().workflow::<Releases>("releases").start("waits".into()).await.expect("started");
    assert_eq!(soon(waits.result()).await.expect("a result"), "by another");
    worker.stop().await.expect("stopped");
}
