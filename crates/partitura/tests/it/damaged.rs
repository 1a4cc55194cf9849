//! Instances whose history cannot be read.

use std::sync::Arc;

use partitura::{Cancelled, ChildError, Cx, Destination, ParentEnd, StartPolicy, Status, WorkflowError, days};
use partitura_broker::{Broker, Expect, Put, ScanRange, Space, Unit};
use partitura_embedded::Embedded;

use crate::support::{eventually, soon};
use crate::troubled::{Troubled, Virtual, embedded};

/// Waits for longer than any test.
#[derive(Debug, Default)]
struct Child;

#[partitura::workflow]
impl Child {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Cancelled> {
        cx.sleep(days(1_000)).await
    }
}

/// Has four children, if any: one of each policy, and one that is let go.
#[derive(Debug, Default)]
struct Parent;

#[partitura::workflow]
impl Parent {
    #[run]
    async fn run(cx: Cx<Self>, has_children: bool) -> Result<(), ChildError<Cancelled>> {
        if !has_children {
            return Ok(());
        }
        let child = |name: &str| cx.child::<Child>(format!("{}-{name}", cx.id()));
        let cancelled = child("cancelled").start(());
        let _terminated = child("terminated").on_parent_end(ParentEnd::Terminate).start(());
        let _abandoned = child("abandoned").on_parent_end(ParentEnd::Abandon).start(());
        let _ = child("detached").start(()).detach();
        cancelled.await
    }
}

/// Makes what is kept of an instance unreadable.
async fn damage(broker: &Arc<Embedded>, space: Space, prefix: &'static [u8]) {
    let transactions = broker.transactions().expect("it has them");
    let rows = transactions.scan(ScanRange::prefix(space, prefix), 100).await.expect("read");
    assert!(!rows.is_empty());
    let put = |row: partitura_broker::Entry| Put { space, key: row.key, expect: Expect::Any, value: Some("[".into()) };
    let unit = Unit { put: rows.into_iter().map(put).collect(), ..Unit::default() };
    transactions.commit(vec![unit]).await.pop().expect("a result").expect("written");
}

#[tokio::test(start_paused = true)]
async fn the_children_of_an_instance_that_cannot_be_read_learn_of_its_end() {
    let clock = Virtual::new();
    let broker = embedded(&clock);
    let partitura = Troubled::new(&broker).engine(&clock).await;
    let start = async || partitura.worker().workflow::<Parent>().workflow::<Child>().start().await.expect("a worker");
    let worker = start().await;
    let client = partitura.client();
    for parent in ["p1", "p2"] {
        client.workflow::<Parent>(parent).start(true).await.expect("started");
        for child in ["cancelled", "terminated", "abandoned", "detached"] {
            let child = client.workflow::<Child>(format!("{parent}-{child}"));
            eventually(|| async { child.describe().await.ok() }).await;
        }
    }
    worker.stop().await.expect("stopped");
    damage(&broker, "history", b"Parent\0").await;
    let worker = start().await;
    let (ended, replaced) = (client.workflow::<Parent>("p1"), client.workflow::<Parent>("p2"));
    ended.terminate("it cannot be read").confirmed().await.expect("ended");
    replaced.start(false).policy(StartPolicy::Replace).await.expect("replaced");
    let outcome = async |id: &str| soon(client.workflow::<Child>(id).result()).await;
    assert!(matches!(outcome("p1-cancelled").await, Err(WorkflowError::Cancelled { .. })));
    assert!(matches!(outcome("p1-terminated").await, Err(WorkflowError::Terminated(_))));
    assert!(matches!(outcome("p2-terminated").await, Err(WorkflowError::Terminated(_))));
    for going_on in ["p1-abandoned", "p1-detached", "p2-abandoned", "p2-detached"] {
        let status = soon(client.workflow::<Child>(going_on).describe()).await.expect("known").status;
        assert_eq!(status, Status::Running, "{going_on}");
    }
    worker.stop().await.expect("stopped");
    // Of those that have ended no row is left.
    let transactions = broker.transactions().expect("it has them");
    let rows = transactions.scan(ScanRange::prefix("children", &b"Parent\0p1\0"[..]), 100).await.expect("read");
    assert_eq!(rows.len(), 0);
}

/// Awaits a child, whose id is given.
#[derive(Debug, Default)]
struct Awaits;

#[partitura::workflow]
impl Awaits {
    #[run]
    async fn run(cx: Cx<Self>, child: String) -> Result<(), ChildError<Cancelled>> {
        cx.child::<Child>(child).run(()).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_start_becomes_a_dead_letter_fails_in_its_parent_with_the_reason() {
    let clock = Virtual::new();
    let broker = embedded(&clock);
    let partitura = Troubled::new(&broker).engine(&clock).await;
    let start = async || partitura.worker().workflow::<Awaits>().workflow::<Child>().start().await.expect("a worker");
    let worker = start().await;
    let client = partitura.client();
    client.workflow::<Child>("c").start(()).confirmed().await.expect("started");
    worker.stop().await.expect("stopped");
    damage(&broker, "instances", b"Child\0c").await;
    let worker = start().await;
    let parent = client.workflow::<Awaits>("a");
    parent.start("c".to_owned()).await.expect("started");
    let error = soon(parent.result()).await.expect_err("it has no child").to_string();
    assert!(error.contains("Child/c"), "{error}");
    let of_children = Destination::Workflow("Child".to_owned());
    let letters = partitura.dead_letters(&of_children).expect("a name");
    eventually(|| async { (letters.list(10).await.expect("a list").len() == 1).then_some(()) }).await;
    worker.stop().await.expect("stopped");
}
