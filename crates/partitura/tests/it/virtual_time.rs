//! The testing kit: months pass while a test runs.

use partitura::testing::TestEnv;
use partitura::{Cancelled, Cx, WorkflowError, days, hours, select};

use crate::support::Oops;

#[derive(Debug, Default)]
struct Packing {
    packed: bool,
}

#[partitura::workflow]
impl Packing {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        select! {
            packed = cx.until(|packing: &Packing| packing.packed) => packed?,
            _ = cx.sleep(days(30)) => return Err(Oops::No("never packed".into())),
        }
        Ok("packed".into())
    }

    #[signal]
    fn packed(&mut self) {
        self.packed = true;
    }

    #[query]
    fn is_packed(&self) -> bool {
        self.packed
    }
}

#[tokio::test]
async fn an_order_that_is_never_packed_fails_after_a_month() {
    let env = TestEnv::new().workflow::<Packing>();
    let packing = env.start::<Packing>("o-1", ()).await;
    let begun = env.now();
    env.advance(days(29)).await;
    assert!(!packing.query(PackingQuery::is_packed()).await.expect("it waits still"));
    env.advance(days(2)).await;
    match packing.result().await {
        Err(WorkflowError::Failed(Oops::No(reason))) => assert_eq!(reason, "never packed"),
        other => panic!("{other:?}"),
    }
    assert!(env.now().since(begun) >= days(31));
}

#[tokio::test]
async fn a_signal_ends_the_wait_at_any_time() {
    let env = TestEnv::new().workflow::<Packing>();
    let packing = env.start::<Packing>("o-1", ()).await;
    env.advance(hours(5)).await;
    packing.signal(PackingSignal::packed()).await.expect("sent");
    assert_eq!(packing.result().await.expect("a result"), "packed");
}

#[derive(Debug, Default)]
struct Year;

#[partitura::workflow]
impl Year {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, Cancelled> {
        for _ in 0..365 {
            cx.sleep(days(1)).await?;
        }
        Ok(365)
    }
}

#[tokio::test]
async fn whoever_awaits_the_result_lets_time_pass_by_that() {
    let env = TestEnv::new().workflow::<Year>();
    let begun = env.now();
    let year = env.start::<Year>("y", ()).await;
    assert_eq!(year.result().await.expect("a result"), 365);
    assert!(env.now().since(begun) >= days(365));
}
