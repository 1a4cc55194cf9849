//! Compensations in workflows and their children, whatever is cancelled meanwhile.

use partitura::testing::TestEnv;
use partitura::{Cx, WorkflowError, days, hours, minutes};

use crate::support::{Oops, TextService, TextStub, Texts};

/// Runs a child like itself, down to one that fails after an hour. Each takes two hours to undo what it did, and has a
/// child of its own do so.
#[derive(Debug, Default)]
struct Undoing;

#[partitura::workflow]
impl Undoing {
    #[run]
    async fn run(cx: Cx<Self>, depth: u32) -> Result<(), Oops> {
        let mut saga = cx.saga();
        let undo = cx.clone();
        saga.on_failure(async move {
            undo.sleep(hours(1)).await?;
            let undone = undo.child::<Undo>(format!("undo {}", undo.id())).run(()).await;
            undone.map_err(|error| Oops::Task(error.to_string()))?;
            Ok::<_, Oops>(undo.service::<TextStub>().note(undo.id().to_owned()).await?)
        });
        if depth == 0 {
            cx.sleep(hours(1)).await?;
            return Err(Oops::No("the first cause".into()));
        }
        let child = cx.child::<Undoing>(format!("{}{depth}", cx.id())).run(depth - 1).await;
        child.map_err(|error| Oops::Task(error.to_string()))
    }
}

#[derive(Debug, Default)]
struct Undo;

#[partitura::workflow]
impl Undo {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        cx.sleep(hours(1)).await?;
        Ok(cx.service::<TextStub>().note(cx.id().to_owned()).await?)
    }
}

async fn cancelled_after(half_hours: u64) {
    let texts = Texts::default();
    let env = TestEnv::new().service(TextService(texts.clone())).workflow::<Undoing>().workflow::<Undo>();
    let top = env.start::<Undoing>("a", 2).await;
    env.advance(minutes(30 * half_hours)).await;
    // All at once: each is cancelled by its parent, too.
    for id in ["a", "a2", "a21"] {
        let _ = env.client().await.workflow::<Undoing>(id).cancel("enough").confirmed().await;
    }
    match top.result().await {
        Err(WorkflowError::Cancelled { failure: Some(failure), .. }) => assert!(failure.compensations.is_empty()),
        other => panic!("{half_hours}: {other:?}"),
    }
    env.advance(days(1)).await;
    let mut undone = texts.notes.lock().expect("notes").clone();
    undone.sort();
    assert_eq!(undone, ["a", "a2", "a21", "undo a", "undo a2", "undo a21"], "{half_hours}");
}

#[test]
fn what_parents_and_children_did_is_undone_once_whenever_they_are_cancelled() {
    // It fails after an hour, and the last is undone after seven.
    for half_hours in [0, 1, 3, 5, 7, 9, 11, 13] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(cancelled_after(half_hours));
    }
}
