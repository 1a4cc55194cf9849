//! Lists of futures, and channels with several receivers.

use partitura::{Cx, Never, ReceiveError, Signal, TaskError, join, millis, minutes, seconds};

use crate::stage::{Stage, forgetful};
use crate::support::soon;

#[partitura::service]
trait Suppliers {
    /// Answers after a while, or never.
    async fn quote(&self, after_millis: u64, cents: u64) -> Result<u64, String>;
}

#[derive(Debug)]
struct Market;

impl Suppliers for Market {
    async fn quote(&self, after_millis: u64, cents: u64) -> Result<u64, String> {
        if after_millis == u64::MAX {
            let task = partitura::TaskContext::current().expect("inside of a task");
            task.cancelled().await;
        }
        tokio::time::sleep(millis(after_millis)).await;
        if cents == 0 { Err("sold out".to_owned()) } else { Ok(cents) }
    }
}

/// Asks several suppliers, in three ways.
#[derive(Debug, Default)]
struct Asks;

#[partitura::workflow]
impl Asks {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(usize, u64, usize, Vec<Option<u64>>), TaskError<String>> {
        let suppliers = cx.service::<SuppliersStub>();
        let never = u64::MAX;
        let ask = |(after, cents)| suppliers.quote(after, cents);
        let (fastest, cents) = cx.any([(never, 1), (5, 2), (never, 3)].map(ask)).await;
        let well = cx.any_ok([(never, 1), (0, 0), (20, 3)].map(ask)).await;
        let (first_with_any, _) = well.map_err(|mut errors| errors.remove(0))?;
        let in_time = cx.all_until(cx.sleep(seconds(5)), [(0, 7), (never, 8), (1, 0)].map(ask)).await;
        let in_time = in_time.into_iter().map(|quote| quote.map(|quote| quote.unwrap_or(0))).collect();
        Ok((fastest, cents?, first_with_any, in_time))
    }
}

pub(crate) async fn the_first_of_a_list_wins_and_what_comes_in_time_counts(stage: Stage) {
    let [partitura] = stage.processes(forgetful).await;
    let worker = partitura.worker().service(SuppliersService(Market)).workflow::<Asks>();
    let worker = worker.start().await.expect("a worker");
    let asks = partitura.client().workflow::<Asks>("a");
    asks.start(()).await.expect("started");
    assert_eq!(soon(asks.result()).await.expect("a result"), (1, 2, 2, vec![Some(7), None, Some(0)]));
    worker.stop().await.expect("stopped");
}

/// Awaits the first of its children.
#[derive(Debug, Default)]
struct Relay;

#[partitura::workflow]
impl Relay {
    #[run]
    async fn run(cx: Cx<Self>, waits: Vec<u64>) -> Result<usize, Never> {
        let children = waits.iter().enumerate().map(|(index, wait)| cx.child::<Runner>(index).run(*wait));
        Ok(cx.any(children).await.0)
    }
}

#[derive(Debug, Default)]
struct Runner;

#[partitura::workflow]
impl Runner {
    #[run]
    async fn run(cx: Cx<Self>, wait: u64) -> Result<(), partitura::Cancelled> {
        cx.sleep(if wait == 0 { millis(1) } else { minutes(wait) }).await
    }
}

pub(crate) async fn the_children_that_lose_are_cancelled(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Relay>().workflow::<Runner>().start().await.expect("a worker");
    let relay = partitura.client().workflow::<Relay>("r");
    relay.start(vec![60, 0, 60]).await.expect("started");
    assert_eq!(soon(relay.result()).await.expect("a result"), 1);
    for loser in ["0", "2"] {
        let loser = partitura.client().workflow::<Runner>(loser);
        assert!(matches!(soon(loser.result()).await, Err(partitura::WorkflowError::Cancelled { .. })));
    }
    worker.stop().await.expect("stopped");
}

/// Takes from one channel at three places.
#[derive(Debug, Default)]
struct Sorts;

#[partitura::workflow]
impl Sorts {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(Vec<u32>, u32, Vec<u32>), ReceiveError> {
        let numbers = cx.channel::<u32>("numbers");
        let some = async |least: u32, below: u32| {
            let mut taken = Vec::new();
            while taken.len() < 3 {
                taken.push(numbers.recv_where(move |number| (least..below).contains(number)).await?);
            }
            Ok::<_, ReceiveError>(taken)
        };
        let (small, first, large) = join!(some(0, 10), numbers.recv(), some(10, 100));
        Ok((small?, first?, large?))
    }
}

pub(crate) async fn each_signal_of_a_channel_goes_to_one_receiver_that_wants_it(stage: Stage) {
    let [partitura] = stage.processes(forgetful).await;
    let client = partitura.client();
    let sorts = client.workflow::<Sorts>("s");
    sorts.start(()).await.expect("started");
    // Some come before any worker, and are kept.
    let numbers = [1, 50, 2, 60, 500, 70, 3, 80];
    let send = async |number: u32| sorts.signal(Signal::to_channel("numbers", &number)).await.expect("sent");
    for number in &numbers[..2] {
        send(*number).await;
    }
    let worker = partitura.worker().workflow::<Sorts>().start().await.expect("a worker");
    for number in &numbers[2..] {
        send(*number).await;
    }
    // 1 is for the first receiver that waits, 50 for the second, which takes all. Nobody wants 500.
    assert_eq!(soon(sorts.result()).await.expect("a result"), (vec![1, 2, 3], 50, vec![60, 70, 80]));
    worker.stop().await.expect("stopped");
}
