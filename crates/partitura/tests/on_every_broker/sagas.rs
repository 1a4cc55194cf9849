//! Sagas within sagas, compensations that fail, and those of a parent and its child.

use partitura::{ChildError, Cx, Partitura, RunningWorker, Workflow, WorkflowError};

use crate::stage::Stage;
use crate::support::{Oops, TextService, TextStub, Texts, soon};

/// Books a flight, and a hotel, which is a part that may fail by itself.
#[derive(Debug, Default)]
struct Travels;

#[partitura::workflow]
impl Travels {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        let texts = cx.service::<TextStub>();
        let mut trip = cx.saga();
        texts.note("flight".into()).await?;
        trip.on_failure(texts.note("no flight".into()));
        let mut hotel = cx.saga();
        for part in ["room", "breakfast"] {
            texts.note(part.into()).await?;
            hotel.on_failure(texts.note(format!("no {part}")));
        }
        let Err(refused) = texts.refuse("no towels".into()).await else { return Ok("in a hotel".into()) };
        let failed: Result<(), _> = hotel.fail(Oops::from(refused)).await;
        texts.note(failed.expect_err("it failed").to_string()).await?;
        trip.complete();
        Ok("in a tent".into())
    }
}

/// Would undo three things, and one of them cannot be undone.
#[derive(Debug, Default)]
struct Regrets;

#[partitura::workflow]
impl Regrets {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let texts = cx.service::<TextStub>();
        let mut saga = cx.saga();
        saga.on_failure(texts.note("undo first".into()));
        saga.on_failure(texts.refuse("it was sent".into()));
        saga.on_failure(texts.note("undo last".into()));
        Err(Oops::No("regret".into()))
    }
}

/// Does something, and so does its child, which fails.
#[derive(Debug, Default)]
struct Delegates;

#[partitura::workflow]
impl Delegates {
    #[run]
    async fn run(cx: Cx<Self>, is_child: bool) -> Result<(), ChildError<Oops>> {
        let failed = |error: Oops| ChildError::Failed(error);
        let (texts, name) = (cx.service::<TextStub>(), cx.id().to_owned());
        let mut saga = cx.saga();
        texts.note(name.clone()).await.map_err(|error| failed(error.into()))?;
        saga.on_failure(texts.note(format!("no {name}")));
        if is_child {
            return Err(failed(Oops::No("bad luck".into())));
        }
        match cx.child::<Delegates>("child").run(true).await {
            Err(ChildError::Failed(ChildError::Failed(error))) => Err(failed(error)),
            other => Err(ChildError::Unknown(format!("{other:?}"))),
        }
    }
}

async fn worker<W: Workflow>(partitura: &Partitura) -> (RunningWorker, Texts) {
    let texts = Texts::default();
    let worker = partitura.worker().service(TextService(texts.clone())).workflow::<W>();
    (worker.start().await.expect("a worker"), texts)
}

fn notes(texts: &Texts) -> Vec<String> {
    std::mem::take(&mut *texts.notes.lock().expect("notes"))
}

pub(crate) async fn a_part_that_fails_is_undone_alone_and_the_workflow_goes_on(stage: Stage) {
    let partitura = stage.application().await;
    let (worker, texts) = worker::<Travels>(&partitura).await;
    let travels = partitura.client().workflow::<Travels>("t");
    travels.start(()).await.expect("started");
    assert_eq!(soon(travels.result()).await.expect("a result"), "in a tent");
    let reason = "a task failed: no: no towels";
    assert_eq!(notes(&texts), ["flight", "room", "breakfast", "no breakfast", "no room", reason]);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_compensation_that_fails_keeps_no_other_from_running(stage: Stage) {
    let partitura = stage.application().await;
    let (worker, texts) = worker::<Regrets>(&partitura).await;
    let regrets = partitura.client().workflow::<Regrets>("r");
    regrets.start(()).await.expect("started");
    match soon(regrets.result()).await {
        Err(WorkflowError::Uncompensated { error: Oops::No(error), compensations }) => {
            assert_eq!((&*error, compensations.len()), ("regret", 1));
            assert!(compensations[0].message.contains("it was sent"), "{compensations:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(notes(&texts), ["undo last", "undo first"]);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_child_undoes_its_part_before_its_parent_does(stage: Stage) {
    let partitura = stage.application().await;
    let (worker, texts) = worker::<Delegates>(&partitura).await;
    let parent = partitura.client().workflow::<Delegates>("parent");
    parent.start(false).await.expect("started");
    match soon(parent.result()).await {
        Err(WorkflowError::Failed(ChildError::Failed(Oops::No(error)))) => assert_eq!(error, "bad luck"),
        other => panic!("{other:?}"),
    }
    assert_eq!(notes(&texts), ["parent", "child", "no child", "no parent"]);
    worker.stop().await.expect("stopped");
}
