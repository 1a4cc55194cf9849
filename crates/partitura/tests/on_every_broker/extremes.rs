//! Values, sizes and times at the ends of what there is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use partitura::contract::Ordering;
use partitura::messaging::{DeadLetters, SubscriptionTopics};
use partitura::{ClientError, Cx, Retry, Status, TaskError, WorkflowError, days, millis, select};

use crate::stage::Stage;
use crate::support::{Oops, TextService, TextStub, Texts, Waits, WaitsQuery, WaitsSignal, eventually, soon};

/// No test sends more than this.
const LARGEST: usize = 8 << 20;

pub(crate) async fn a_signal_just_below_the_limit_is_refused_or_takes_effect(stage: Stage) {
    let partitura = stage.application().await;
    let limit = partitura.broker().capabilities().limits.payload;
    if limit > LARGEST {
        return;
    }
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let (mut accepted, mut refused) = (0, 0);
    for below in [0, 100, 250, 400, 700, 1_000, 2_000, 8_000] {
        let waits = partitura.client().workflow::<Waits>(below.to_string());
        waits.start(()).await.expect("started");
        // The room that is left for the text in a command of this size, whatever its envelope is.
        match waits.signal(WaitsSignal::release("x".repeat(limit - below))).await {
            Ok(()) => {
                accepted += 1;
                assert_eq!(soon(waits.result()).await.expect("a result").len(), limit - below);
            }
            Err(ClientError::TooLarge { .. }) => {
                refused += 1;
                assert!(!soon(waits.query(WaitsQuery::is_released())).await.expect("an answer"));
                waits.terminate("enough").confirmed().await.expect("terminated");
                assert!(matches!(soon(waits.result()).await, Err(WorkflowError::Terminated(_))));
            }
            Err(error) => panic!("{below} bytes below the limit: {error}"),
        }
        assert_ne!(soon(waits.describe()).await.expect("described").status, Status::Running);
    }
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused");
    worker.stop().await.expect("stopped");
}

#[partitura::service]
trait Prices {
    async fn with_tax(&self, net: f64) -> f64;
    async fn same(&self, price: f64) -> f64;
}

struct Taxed;

impl Prices for Taxed {
    async fn with_tax(&self, net: f64) -> f64 {
        net * 1.19
    }

    async fn same(&self, price: f64) -> f64 {
        price
    }
}

/// Counts the prices that come back changed.
#[derive(Debug, Default)]
struct Sums;

#[partitura::workflow]
impl Sums {
    #[run]
    async fn run(cx: Cx<Self>, cents: Vec<u32>) -> Result<Vec<f64>, Oops> {
        let prices = cx.service::<PricesStub>();
        let mut all = Vec::new();
        for cents in cents {
            all.push(prices.same(prices.with_tax(f64::from(cents) / 100.0).await?).await?);
        }
        Ok(all)
    }
}

pub(crate) async fn prices_arrive_to_the_bit(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().service(PricesService(Taxed)).workflow::<Sums>();
    let worker = worker.start().await.expect("a worker");
    let sums = partitura.client().workflow::<Sums>("s");
    let cents: Vec<u32> = (1..=40).collect();
    sums.start(cents.clone()).await.expect("started");
    let wanted: Vec<f64> = cents.iter().map(|cents| f64::from(*cents) / 100.0 * 1.19).collect();
    assert_eq!(wanted[0].to_bits(), (0.01_f64 * 1.19).to_bits());
    assert_eq!(soon(sums.result()).await.expect("a result"), wanted);
    worker.stop().await.expect("stopped");
}

/// Three waits that no broker can hold for as long.
#[derive(Debug, Default)]
struct Far {
    called: bool,
}

#[partitura::workflow]
impl Far {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        let woken = select! {
            _ = cx.sleep(Duration::MAX) => "for ever",
            _ = cx.sleep(days(36_500)) => "a century",
            _ = cx.sleep_until("9999-12-01T00:00:00Z".parse().map_err(|_| Oops::Busy)?) => "the year 9999",
            _ = cx.until(|far: &Far| far.called) => "called",
        };
        Ok(woken.to_owned())
    }

    #[signal]
    fn call(&mut self) {
        self.called = true;
    }
}

pub(crate) async fn for_ever_and_the_year_9999_are_waited_for(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Far>().start().await.expect("a worker");
    let far = partitura.client().workflow::<Far>("f");
    far.start(()).await.expect("started");
    let described = eventually(|| async { far.describe().await.ok().filter(|far| far.waits_for >= 3) }).await;
    assert_eq!(described.status, Status::Running);
    tokio::time::sleep(millis(500)).await;
    assert_eq!(soon(far.describe()).await.expect("described").status, Status::Running);
    far.signal(FarSignal::call()).await.expect("sent");
    assert_eq!(soon(far.result()).await.expect("a result"), "called");
    worker.stop().await.expect("stopped");
}

/// A wait between two looks at the machine's clock.
#[derive(Debug, Default)]
struct Naps;

fn microseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

#[partitura::workflow]
impl Naps {
    #[run]
    async fn run(cx: Cx<Self>, millis: u64) -> Result<u64, Oops> {
        let before = cx.step("before", async { Ok::<_, Oops>(microseconds()) }).await?;
        cx.sleep(Duration::from_millis(millis)).await?;
        let after = cx.step("after", async { Ok::<_, Oops>(microseconds()) }).await?;
        Ok(after - before)
    }
}

pub(crate) async fn a_timer_is_not_a_microsecond_early(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Naps>().start().await.expect("a worker");
    let naps: Vec<_> = (1..=60).map(|millis| partitura.client().workflow::<Naps>(millis.to_string())).collect();
    for (millis, naps) in (1..).zip(&naps) {
        naps.start(millis).await.expect("started");
    }
    for (millis, naps) in (1..).zip(&naps) {
        let took = soon(naps.result()).await.expect("a result");
        assert!(took >= millis * 1_000, "{took} µs instead of {millis} ms");
    }
    worker.stop().await.expect("stopped");
}

/// Gets a long error.
#[derive(Debug, Default)]
struct Refused;

#[partitura::workflow]
impl Refused {
    #[run]
    async fn run(cx: Cx<Self>, bytes: usize) -> Result<usize, Oops> {
        let twice = Retry::fixed(millis(1)).max_attempts(2);
        match cx.service::<TextStub>().refuse("x".repeat(bytes)).retry(twice).retry_errors().await {
            Err(TaskError::Failed(Oops::No(text))) => Ok(text.len()),
            other => Err(Oops::Task(format!("{other:?}"))),
        }
    }
}

pub(crate) async fn a_long_error_arrives_typed_and_its_dead_letter_is_kept(stage: Stage) {
    let (partitura, namespace) = stage.named_application().await;
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Refused>();
    let worker = worker.start().await.expect("a worker");
    let refused = partitura.client().workflow::<Refused>("r");
    refused.start(16_300).await.expect("started");
    assert_eq!(soon(refused.result()).await.expect("a result"), 16_300);
    let tasks = format!("{namespace}.service.Text.tasks").parse().expect("a name");
    let source = SubscriptionTopics::new(tasks, "workers".parse().expect("a name"), Ordering::Shared);
    let letters = DeadLetters::new(partitura.broker().clone(), source).expect("dead letters");
    let found = soon(letters.list(10)).await.expect("letters");
    assert!(matches!(&found[..], [letter] if letter.error.as_ref().is_some_and(|error| error.ends_with("x…"))));
    worker.stop().await.expect("stopped");
}

/// Undoes in two tasks, and is cancelled between them.
#[derive(Debug, Default)]
struct Undoes;

#[partitura::workflow]
impl Undoes {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let texts = cx.service::<TextStub>();
        let mut saga = cx.saga();
        let (undo, cancelled) = (texts.clone(), cx.clone());
        saga.on_failure(async move {
            undo.note("void".into()).await?;
            while !cancelled.is_cancelled() {
                cancelled.sleep(millis(50)).await?;
            }
            undo.note("refund".into()).await?;
            Ok::<_, Oops>(())
        });
        texts.refuse("declined".into()).await?;
        Ok(())
    }
}

pub(crate) async fn a_compensation_runs_to_its_end_though_its_workflow_is_cancelled(stage: Stage) {
    let partitura = stage.application().await;
    let texts = Texts::default();
    let worker = partitura.worker().service(TextService(texts.clone())).workflow::<Undoes>();
    let worker = worker.start().await.expect("a worker");
    let undoes = partitura.client().workflow::<Undoes>("u");
    undoes.start(()).await.expect("started");
    let notes = || texts.notes.lock().expect("notes").clone();
    eventually(|| async { notes().first().map(drop) }).await;
    undoes.cancel("enough").await.expect("sent");
    let error = soon(undoes.result()).await.expect_err("it fails");
    let WorkflowError::Cancelled { failure: Some(first), .. } = &error else { panic!("{error:?}") };
    assert!(first.message.contains("declined") && first.compensations.is_empty(), "{error:?}");
    assert_eq!(notes(), ["void", "refund"]);
    worker.stop().await.expect("stopped");
}
