//! Retries, time-outs, heartbeats and events of tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use partitura::{Cx, Retry, TaskContext, TaskError, millis, seconds};

use crate::in_memory;
use crate::support::{Oops, TextService, TextStub, Texts, eventually, soon};

#[derive(Debug, Default)]
struct Retries;

#[partitura::workflow]
impl Retries {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<Vec<String>, Oops> {
        let texts = cx.service::<TextStub>();
        let fast = || Retry::fixed(millis(1)).max_attempts(3);
        let mut said = Vec::new();
        said.push(format!("{:?}", texts.busy_until(3).await));
        said.push(format!("{:?}", texts.busy_until(9).await));
        said.push(format!("{:?}", texts.refuse("final".into()).await));
        said.push(format!("{:?}", texts.panic_until(3).retry(fast()).await));
        said.push(match texts.panic_until(9).retry(fast()).await {
            Err(TaskError::Panicked(message)) => message,
            other => format!("{other:?}"),
        });
        said.push(format!("{:?}", texts.hang().timeout(millis(5)).retry(fast()).await));
        said.push(format!("{:?}", texts.hang().overall_timeout(seconds(1)).await));
        Ok(said)
    }
}

#[tokio::test]
async fn tasks_are_retried_by_their_policies_and_their_errors_are_typed() {
    let partitura = in_memory().await;
    let texts = Texts::default();
    let worker = partitura.worker().service(TextService(texts.clone())).workflow::<Retries>();
    let worker = worker.start().await.expect("a worker");
    let retries = partitura.client().workflow::<Retries>("r");
    retries.start(()).await.expect("started");
    let said = soon(retries.result()).await.expect("a result");
    assert_eq!(
        said,
        [
            "Ok(3)",
            "Err(Failed(Busy))",
            "Err(Failed(No(\"final\")))",
            "Ok(3)",
            "attempt 3",
            "Err(TimedOut)",
            "Err(TimedOut)",
        ]
    );
    assert_eq!(texts.hanging.load(Ordering::SeqCst), 4, "three attempts, and one that took all the time there was");
    worker.stop().await.expect("stopped");
}

#[partitura::service]
trait Long {
    async fn work(&self) -> Result<u32, Oops>;
    async fn until_cancelled(&self) -> Result<(), Oops>;
}

#[derive(Debug, Default, Clone)]
struct Longs {
    begun: Arc<AtomicU32>,
    abandoned: Arc<AtomicU32>,
}

impl Long for Longs {
    async fn work(&self) -> Result<u32, Oops> {
        let task = TaskContext::current().expect("inside of a task");
        let done: u32 = task.last_heartbeat().expect("a number").unwrap_or(0);
        if done < 2 {
            task.heartbeat(&(done + 1)).expect("a number");
            std::future::pending::<()>().await;
        }
        Ok(done)
    }

    async fn until_cancelled(&self) -> Result<(), Oops> {
        let task = TaskContext::current().expect("inside of a task");
        loop {
            task.heartbeat(&()).expect("nothing");
            self.begun.store(1, Ordering::SeqCst);
            tokio::select! {
                () = task.cancelled() => break,
                () = tokio::time::sleep(millis(5)) => {}
            }
        }
        self.abandoned.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Beats;

#[partitura::workflow]
impl Beats {
    #[run]
    async fn run(cx: Cx<Self>, cancellable: bool) -> Result<u32, Oops> {
        let long = cx.service::<LongStub>();
        if cancellable {
            long.until_cancelled().heartbeat_timeout(seconds(1)).await?;
        }
        let retry = Retry::fixed(millis(1)).max_attempts(5);
        Ok(long.work().heartbeat_timeout(millis(300)).retry(retry).await?)
    }
}

#[tokio::test]
async fn a_silent_task_is_tried_again_and_knows_how_far_it_was() {
    let partitura = in_memory().await;
    let worker = partitura.worker().service(LongService(Longs::default())).workflow::<Beats>();
    let worker = worker.start().await.expect("a worker");
    let beats = partitura.client().workflow::<Beats>("b");
    beats.start(false).await.expect("started");
    assert_eq!(soon(beats.result()).await.expect("a result"), 2);
    worker.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_task_learns_from_its_heartbeats_that_nobody_wants_it_any_more() {
    let partitura = in_memory().await;
    let longs = Longs::default();
    let worker = partitura.worker().service(LongService(longs.clone())).workflow::<Beats>();
    let worker = worker.start().await.expect("a worker");
    let beats = partitura.client().workflow::<Beats>("b");
    beats.start(true).await.expect("started");
    eventually(|| async {
        tokio::time::sleep(millis(1)).await;
        (longs.begun.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    beats.cancel("enough").await.expect("sent");
    soon(beats.result()).await.expect_err("it is cancelled");
    eventually(|| async {
        tokio::time::sleep(millis(1)).await;
        (longs.abandoned.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    worker.stop().await.expect("stopped");
}
