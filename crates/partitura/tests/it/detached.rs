//! The fate of tasks and children that are open when a workflow ends.

use partitura::testing::TestEnv;
use partitura::{Cx, Never, Status, WorkflowError, days, seconds, select};

#[derive(Debug, Default)]
struct Child;

#[partitura::workflow]
impl Child {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, partitura::Cancelled> {
        cx.sleep(days(1)).await?;
        Ok(7)
    }
}

#[derive(Debug, Default)]
struct Parent;

#[partitura::workflow]
impl Parent {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Never> {
        drop(cx.child::<Child>("open").start(()));
        cx.child::<Child>("detached").start(()).detach().expect("started");
        select! {
            _ = cx.child::<Child>("lost").run(()) => {},
            _ = cx.sleep(seconds(1)) => {},
        }
        let _ = cx.sleep(seconds(1)).await;
        Ok(())
    }
}

#[tokio::test]
async fn a_child_ends_with_its_parent_unless_it_was_detached() {
    let env = TestEnv::new().workflow::<Parent>().workflow::<Child>();
    let parent = env.start::<Parent>("p-1", ()).await;
    env.advance(seconds(1) + partitura::millis(500)).await;
    let client = env.client().await;
    let lost = client.workflow::<Child>("lost");
    assert!(matches!(lost.result().await, Err(WorkflowError::Cancelled { .. })));
    let open = client.workflow::<Child>("open");
    assert_eq!(open.describe().await.expect("an answer").status, Status::Running);
    parent.result().await.expect("a result");
    assert!(matches!(open.result().await, Err(WorkflowError::Cancelled { .. })));
    assert_eq!(client.workflow::<Child>("detached").result().await.expect("a result"), 7);
}
