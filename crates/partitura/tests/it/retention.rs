//! How long instances are kept that have ended.

use std::future::IntoFuture;
use std::sync::Arc;

use partitura::{
    ClientError, Cx, Filter, Partitura, ReceiveError, Retention, RunningWorker, Signal, Summary, WorkflowHandle, hours,
    minutes, seconds,
};
use partitura_broker::{Broker, ScanRange};
use partitura_embedded::Embedded;
use tokio::time::sleep;

use crate::support::soon;
use crate::troubled::{Virtual, embedded};

/// Takes what is sent to it, in runs of a given length, up to a zero.
#[derive(Debug, Default)]
struct Takes;

#[partitura::workflow]
impl Takes {
    #[run]
    async fn run(cx: Cx<Self>, (most, before): (usize, u64)) -> Result<u64, ReceiveError> {
        let mut taken = before;
        for _ in 0..most {
            match cx.channel::<u64>("take").recv().await? {
                0 => return Ok(taken),
                number => taken += number,
            }
        }
        cx.continue_as_new((most, taken)).await
    }
}

/// A worker of it, on a broker in memory.
struct Stage {
    broker: Arc<Embedded>,
    partitura: Partitura,
    _worker: RunningWorker,
}

impl Stage {
    async fn new(retention: impl Into<Retention>) -> Self {
        let clock = Virtual::new();
        let broker = embedded(&clock);
        let partitura = Partitura::on(broker.clone()).clock(clock).partitions(2).retention(retention);
        let partitura = partitura.await.expect("an engine");
        let worker = partitura.worker().workflow::<Takes>().start().await.expect("a worker");
        Self { broker, partitura, _worker: worker }
    }

    /// Starts an instance and sends it these numbers.
    async fn takes(&self, id: &str, most: usize, numbers: impl IntoIterator<Item = u64>) -> WorkflowHandle<Takes> {
        let takes = self.partitura.client().workflow::<Takes>(id);
        takes.start((most, 0)).await.expect("started");
        for number in numbers {
            takes.signal(Signal::to_channel("take", &number)).await.expect("sent");
        }
        takes
    }

    /// How many values are stored in a space.
    async fn stored(&self, space: &'static str) -> usize {
        let transactions = self.broker.transactions().expect("it keeps state");
        transactions.scan(ScanRange::prefix(space, ""), usize::MAX).await.expect("read").len()
    }

    async fn stored_at_all(&self) -> [usize; 5] {
        let mut stored = [0; 5];
        let spaces = ["history", "instances", "expiries", "children", "heartbeats"];
        for (count, space) in stored.iter_mut().zip(spaces) {
            *count = self.stored(space).await;
        }
        stored
    }
}

async fn described(takes: &WorkflowHandle<Takes>) -> Result<Summary, ClientError> {
    soon(takes.describe()).await
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_deleted_when_its_time_is_over_and_its_id_is_free() {
    let stage = Stage::new(minutes(10)).await;
    let takes = stage.takes("a", 9, [1, 2, 0]).await;
    assert_eq!(soon(takes.result()).await.expect("a result"), 3);
    let closed = described(&takes).await.expect("known");
    assert_eq!(closed.expires_at, closed.closed_at.map(|at| at + 600_000));
    let later = stage.takes("b", 9, [5]).await;
    sleep(minutes(9) + seconds(59)).await;
    assert_eq!(soon(takes.result()).await.expect("a result"), 3);
    sleep(seconds(2)).await;
    assert!(matches!(described(&takes).await, Err(ClientError::NotFound { .. })));
    assert_eq!(stage.stored("expiries").await, 0);
    assert_eq!(described(&later).await.expect("it has not ended").expires_at, None);
    later.signal(Signal::to_channel("take", &0)).await.expect("sent");
    assert_eq!(soon(later.result()).await.expect("a result"), 5);
    let again = stage.takes("a", 9, [7, 0]).await;
    assert_eq!(soon(again.result()).await.expect("a result"), 7);
    sleep(minutes(11)).await;
    assert_eq!(stage.stored_at_all().await, [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn the_earlier_runs_of_a_living_instance_are_deleted_when_their_time_is_over() {
    let stage = Stage::new(hours(1)).await;
    let takes = stage.takes("long", 2, []).await;
    for _ in 0..50 {
        sleep(minutes(30)).await;
        takes.signal(Signal::to_channel("take", &1)).await.expect("sent");
    }
    sleep(minutes(1)).await;
    // The present run, and those of the last hour.
    assert_eq!(described(&takes).await.expect("known").expires_at, None);
    assert!((1..=2).contains(&stage.stored("expiries").await));
    assert!(stage.stored("history").await <= 12, "{}", stage.stored("history").await);
    takes.signal(Signal::to_channel("take", &0)).await.expect("sent");
    assert_eq!(soon(takes.result()).await.expect("a result"), 50);
    sleep(minutes(61)).await;
    assert_eq!(stage.stored_at_all().await, [0; 5]);
}

/// Several runs of it end at once.
#[tokio::test(start_paused = true)]
async fn runs_that_fall_due_together_are_deleted_together() {
    let stage = Stage::new(minutes(10)).await;
    let takes = stage.takes("short", 1, [1, 1, 1, 1, 0]).await;
    assert_eq!(soon(takes.result()).await.expect("a result"), 4);
    assert_eq!(stage.stored("expiries").await, 5);
    sleep(minutes(10) + seconds(5)).await;
    assert_eq!(stage.stored_at_all().await, [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_history_of_more_turns_than_fit_into_one_commit_is_deleted_whole() {
    let stage = Stage::new(minutes(1)).await;
    let takes = stage.takes("long", 10_000, []).await;
    for _ in 0..1_100 {
        let signal = takes.signal(Signal::to_channel("take", &1)).confirmed();
        soon(signal.into_future()).await.expect("recorded");
    }
    takes.signal(Signal::to_channel("take", &0)).await.expect("sent");
    assert_eq!(soon(takes.result()).await.expect("a result"), 1_100);
    assert!(stage.stored("history").await > 1_000);
    sleep(minutes(2)).await;
    assert_eq!(stage.stored_at_all().await, [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_takes_over_deletes_what_fell_due_meanwhile() {
    let stage = Stage::new(minutes(10)).await;
    for id in 0..250 {
        let takes = stage.takes(&id.to_string(), 9, [0]).await;
        soon(takes.result()).await.expect("a result");
    }
    let Stage { broker, partitura, _worker: worker } = stage;
    worker.stop().await.expect("stopped");
    sleep(minutes(20)).await;
    let worker = partitura.worker().workflow::<Takes>().start().await.expect("a worker");
    let stage = Stage { broker, partitura, _worker: worker };
    sleep(seconds(10)).await;
    assert_eq!(stage.stored_at_all().await, [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_ever_is_deleted_by_hand() {
    let stage = Stage::new(Retention::Forever).await;
    for id in ["a", "b", "c"] {
        let takes = stage.takes(id, 2, [1, 1, 0]).await;
        soon(takes.result()).await.expect("a result");
        assert_eq!(described(&takes).await.expect("known").expires_at, None);
    }
    let runs = stage.takes("runs", 2, []).await;
    sleep(hours(24 * 365)).await;
    let refused = soon(runs.delete().confirmed().into_future()).await.expect_err("it runs");
    assert!(refused.to_string().contains("it has not ended"), "{refused}");
    let client = stage.partitura.client();
    let a = client.workflow::<Takes>("a");
    soon(a.delete().confirmed().into_future()).await.expect("deleted");
    assert!(matches!(described(&a).await, Err(ClientError::NotFound { .. })));
    assert!(matches!(soon(a.delete().confirmed().into_future()).await, Err(ClientError::NotFound { .. })));
    assert_eq!(soon(client.purge::<Takes>(Filter::all())).await.expect("purged"), 2);
    assert_eq!(soon(client.list::<Takes>(Filter::default())).await.expect("a list").len(), 1);
    // Only the instance that runs is left.
    assert_eq!(stage.stored_at_all().await, [1, 1, 0, 0, 0]);
}
