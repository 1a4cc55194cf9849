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
        drop(cx.child::<Child>("terminated").on_parent_end(ParentEnd::Terminate).start(3));
        let asked_to_cancel = cx.child::<Child>("both").on_parent_end(ParentEnd::Terminate).start(4);
        asked_to_cancel.cancel();
        cx.sleep(seconds(1)).await
    }
}

#[tokio::test]
async fn a_child_goes_on_is_cancelled_or_is_terminated_when_its_parent_ends() {
    let env = TestEnv::new().workflow::<Hasty>().workflow::<Child>();
    env.start::<Hasty>("h-1", ()).await.result().await.expect("a result");
    let client = env.client().await;
    assert_eq!(client.workflow::<Child>("abandoned").result().await.expect("a result"), 2);
    let cancelled = client.workflow::<Child>("cancelled");
    assert!(matches!(cancelled.result().await, Err(WorkflowError::Cancelled { .. })));
    assert_eq!(cancelled.describe().await.expect("an answer").status, Status::Cancelled);
    for terminated in ["terminated", "both"] {
        let terminated = client.workflow::<Child>(terminated);
        assert!(matches!(terminated.result().await, Err(WorkflowError::Terminated(_))));
    }
}

/// Awaits whatever has the id of its child.
#[derive(Debug, Default)]
struct Guest;

#[partitura::workflow]
impl Guest {
    #[run]
    async fn run(cx: Cx<Self>, answer: u32) -> Result<u32, ChildError<Cancelled>> {
        cx.child::<Child>("the-child").use_existing().run(answer).await
    }
}

#[tokio::test]
async fn a_parent_awaits_the_instance_that_has_the_id_of_its_child() {
    let env = TestEnv::new().workflow::<Guest>().workflow::<Child>();
    let existing = env.start::<Child>("the-child", 7).await;
    let (first, second) = (env.start::<Guest>("g-1", 1).await, env.start::<Guest>("g-2", 2).await);
    let gone = env.start::<Guest>("g-3", 3).await;
    env.advance(seconds(1)).await;
    assert_eq!(existing.describe().await.expect("an answer").awaited_by.len(), 3);
    gone.cancel("it has other plans").await.expect("sent");
    assert!(matches!(gone.result().await, Err(WorkflowError::Cancelled { .. })));
    env.advance(seconds(1)).await;
    let described = existing.describe().await.expect("an answer");
    assert_eq!((described.status, described.awaited_by.len()), (Status::Running, 2));
    assert_eq!(first.result().await.expect("a result"), 7);
    assert_eq!(second.result().await.expect("a result"), 7);
    assert_eq!(existing.result().await.expect("a result"), 7);
    // The same once it has ended.
    assert_eq!(env.start::<Guest>("g-4", 4).await.result().await.expect("a result"), 7);
}

#[tokio::test]
async fn a_parent_starts_the_child_that_does_not_exist_and_those_behind_it_await_that_one() {
    let env = TestEnv::new().workflow::<Guest>().workflow::<Child>();
    let (first, second) = (env.start::<Guest>("g-1", 1).await, env.start::<Guest>("g-2", 2).await);
    env.advance(seconds(1)).await;
    let child = env.client().await.workflow::<Child>("the-child");
    let of = child.describe().await.expect("an answer").parent.expect("a parent").id;
    let answer = if of == "g-1" { 1 } else { 2 };
    assert_eq!(first.result().await.expect("a result"), answer);
    assert_eq!(second.result().await.expect("a result"), answer);
}

#[tokio::test]
async fn those_who_await_an_instance_learn_that_it_is_terminated_or_replaced() {
    let env = TestEnv::new().workflow::<Guest>().workflow::<Child>();
    let existing = env.start::<Child>("the-child", 7).await;
    let guest = env.start::<Guest>("g-1", 1).await;
    env.advance(seconds(1)).await;
    existing.start(8).policy(StartPolicy::Replace).await.expect("replaced");
    assert!(matches!(guest.result().await, Err(WorkflowError::Failed(ChildError::Terminated(_)))));
    let guest = env.start::<Guest>("g-2", 2).await;
    env.advance(seconds(1)).await;
    existing.terminate("enough").await.expect("sent");
    assert!(matches!(guest.result().await, Err(WorkflowError::Failed(ChildError::Terminated(_)))));
}
