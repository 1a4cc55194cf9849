//! Instances whose history cannot be read.

use std::sync::Arc;

use partitura::events::CloudEvent;
use partitura::history::EventKind;
use partitura::{Cancelled, ChildError, Cx, Destination, ParentEnd, StartPolicy, Status, WorkflowError, days};
use partitura_broker::{Broker, Expect, Put, ScanRange, Space, Unit};
use partitura_embedded::Embedded;
use tokio::sync::mpsc::unbounded_channel;

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
    overwrite(broker, space, prefix, "[").await;
}

async fn overwrite(broker: &Arc<Embedded>, space: Space, prefix: &'static [u8], with: &'static str) {
    let transactions = broker.transactions().expect("it has them");
    let rows = transactions.scan(ScanRange::prefix(space, prefix), 100).await.expect("read");
    assert!(!rows.is_empty());
    let put = |row: partitura_broker::Entry| Put { space, key: row.key, expect: Expect::Any, value: Some(with.into()) };
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

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_be_read_is_stopped_with_the_reason_and_is_ended_and_deleted_all_the_same() {
    for (with, why) in [("[", "cannot be read"), (r#"{"format":99,"body":[]}"#, "newer Partitura")] {
        let clock = Virtual::new();
        let broker = embedded(&clock);
        let partitura = Troubled::new(&broker).engine(&clock).await;
        let start = async || partitura.worker().workflow::<Child>().start().await.expect("a worker");
        let worker = start().await;
        let child = partitura.client().workflow::<Child>("c");
        child.start(()).confirmed().await.expect("started");
        worker.stop().await.expect("stopped");
        overwrite(&broker, "history", b"Child\0", with).await;
        let worker = start().await;
        let events = partitura.events().workflow::<Child>("audit").await.expect("a subscription");
        let (heard, mut hearing) = unbounded_channel();
        let hear = move |event: CloudEvent<EventKind>| std::future::ready(heard.send(event.data));
        let listening = tokio::spawn(events.process(hear).run_until(std::future::pending::<()>()));
        child.cancel("it cannot be read").await.expect("sent");
        let stopped = soon(child.result()).await.expect_err("it is stopped");
        assert!(matches!(&stopped, WorkflowError::Stopped { reason } if reason.contains(why)), "{stopped}");
        let Status::Stopped { reason } = soon(child.describe()).await.expect("known").status else { panic!("it runs") };
        assert!(reason.contains(why), "{reason}");
        let told = async {
            loop {
                if let Some(EventKind::WorkflowStopped { reason }) = hearing.recv().await {
                    return reason;
                }
            }
        };
        assert_eq!(soon(told).await, reason);
        listening.abort();
        child.terminate("enough").confirmed().await.expect("ended");
        assert!(matches!(soon(child.result()).await, Err(WorkflowError::Terminated(_))));
        child.delete().confirmed().await.expect("deleted");
        soon(child.describe()).await.expect_err("it is gone");
        let transactions = broker.transactions().expect("it has them");
        let rows = transactions.scan(ScanRange::prefix("history", &b"Child\0c\0"[..]), 100).await.expect("read");
        assert_eq!(rows.len(), 0);
        child.start(()).confirmed().await.expect("its id is free");
        worker.stop().await.expect("stopped");
    }
}
