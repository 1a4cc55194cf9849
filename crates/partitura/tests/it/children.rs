//! Children whose id exists already, and what becomes of them when their parent ends.

use partitura::testing::TestEnv;
use partitura::{Cancelled, ChildError, Cx, ParentEnd, StartPolicy, Status, WorkflowError, days, seconds};

#[derive(Debug, Default)]
struct Child;

#[partitura::workflow]
impl Child {
    #[run]
    async fn run(cx: Cx<Self>, answer: u32) -> Result<u32, Cancelled> {
        // It takes its time to end when it is cancelled.
        if cx.sleep(days(1)).await.is_err() {
            cx.sleep(days(1)).await?;
            return Err(Cancelled);
        }
        Ok(answer)
    }
}

/// Runs a child of always the same id.
#[derive(Debug, Default)]
struct Parent;

#[partitura::workflow]
impl Parent {
    #[run]
    async fn run(cx: Cx<Self>, (answer, replace): (u32, bool)) -> Result<u32, ChildError<Cancelled>> {
        let child = cx.child::<Child>("the-child").tags(["small"]);
        if replace { child.replace_existing().run(answer).await } else { child.run(answer).await }
    }
}

#[tokio::test]
async fn a_parent_that_is_started_anew_takes_the_ids_of_its_earlier_run() {
    let env = TestEnv::new().workflow::<Parent>().workflow::<Child>();
    let parent = env.start::<Parent>("p-1", (1, false)).await;
    for (answer, wait) in [(2, seconds(1)), (3, days(3))] {
        env.advance(wait).await;
        // The first child is cancelled then and not over yet; the second has ended.
        parent.start((answer, false)).policy(StartPolicy::Replace).await.expect("started");
        if answer == 2 {
            assert_eq!(parent.result().await.expect("a result"), 2);
        }
    }
    assert_eq!(parent.result().await.expect("a result"), 3);
    let child = env.client().await.workflow::<Child>("the-child").describe().await.expect("an answer");
    assert_eq!(child.tags, ["small"]);
}

#[tokio::test]
async fn a_child_is_refused_or_replaces_what_has_its_id() {
    let env = TestEnv::new().workflow::<Parent>().workflow::<Child>();
    let existing = env.start::<Child>("the-child", 7).await;
    let refused = env.start::<Parent>("p-1", (1, false)).await;
    assert!(matches!(refused.result().await, Err(WorkflowError::Failed(ChildError::Unknown(_)))));
    let replacing = env.start::<Parent>("p-2", (2, true)).await;
    assert_eq!(replacing.result().await.expect("a result"), 2);
    assert!(matches!(existing.result().await, Err(WorkflowError::Terminated(_))));
}

/// Ends before its children do.
#[derive(Debug, Default)]
struct Hasty;

#[partitura::workflow]
impl Hasty {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Cancelled> {
        drop(cx.child::<Child>("cancelled").start(1));
        drop(cx.child::<Child>("abandoned").on_parent_end(ParentEnd::Abandon).start(2));
        cx.sleep(seconds(1)).await
    }
}

#[tokio::test]
async fn a_child_that_is_abandoned_goes_on_when_its_parent_ends() {
    let env = TestEnv::new().workflow::<Hasty>().workflow::<Child>();
    env.start::<Hasty>("h-1", ()).await.result().await.expect("a result");
    let client = env.client().await;
    assert_eq!(client.workflow::<Child>("abandoned").result().await.expect("a result"), 2);
    let cancelled = client.workflow::<Child>("cancelled");
    assert!(matches!(cancelled.result().await, Err(WorkflowError::Cancelled { .. })));
    assert_eq!(cancelled.describe().await.expect("an answer").status, Status::Cancelled);
}
