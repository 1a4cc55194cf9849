//! Moments beyond the horizon of any broker, in virtual time.

use std::time::Duration;

use partitura::testing::TestEnv;
use partitura::{Cx, Never, Retry, Status, TaskError, WorkflowError, days, minutes, select};

use crate::support::{TextService, TextStub, Texts, soon};

#[derive(Debug, Default)]
struct Waits {
    called: bool,
}

#[partitura::workflow]
impl Waits {
    #[run]
    async fn run(cx: Cx<Self>, how_long: Option<u64>) -> Result<String, Never> {
        Ok(select! {
            _ = cx.sleep(how_long.map_or(Duration::MAX, days)) => "slept",
            _ = cx.sleep_until("9999-12-01T00:00:00Z".parse().expect("a date")) => "the year 9999",
            _ = cx.until(|waits: &Waits| waits.called) => "called",
        }
        .to_owned())
    }

    #[signal]
    fn call(&mut self) {
        self.called = true;
    }
}

#[tokio::test]
async fn a_century_is_waited_for_in_stages_and_to_the_millisecond() {
    let env = TestEnv::new().workflow::<Waits>();
    let begun = env.now();
    let waits = env.start::<Waits>("w-1", Some(36_500)).await;
    env.advance(days(36_499)).await;
    assert_eq!(waits.describe().await.expect("an answer").status, Status::Running);
    assert_eq!(waits.result().await.expect("a result"), "slept");
    let took = env.now().since(begun);
    assert!((days(36_500)..days(36_500) + Duration::from_secs(1)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn for_ever_ends_with_a_signal_only() {
    let env = TestEnv::new().workflow::<Waits>();
    let waits = env.start::<Waits>("w-1", None).await;
    env.advance(days(20_000)).await;
    assert_eq!(waits.describe().await.expect("an answer").status, Status::Running);
    waits.signal(WaitsSignal::call()).await.expect("sent");
    assert_eq!(waits.result().await.expect("a result"), "called");
}

/// Calls a service under one limit.
#[derive(Debug, Default)]
struct Limited;

#[partitura::workflow]
impl Limited {
    #[run]
    async fn run(cx: Cx<Self>, (which, limit): (String, Duration)) -> Result<bool, Never> {
        let (text, retry) = (cx.service::<TextStub>(), Retry::fixed(limit).max_attempts(2));
        if limit > days(1) {
            let dot = text.dot("x".to_owned()).retry(retry);
            let dot = match which.as_str() {
                "attempt" => dot.timeout(limit),
                "overall" => dot.overall_timeout(limit),
                "start" => dot.start_timeout(limit),
                _ => dot.heartbeat_timeout(limit),
            };
            return Ok(dot.await.is_ok());
        }
        let hang = text.hang().retry(retry);
        let ended = match which.as_str() {
            "attempt" => hang.timeout(limit).await,
            "overall" => hang.overall_timeout(limit).await,
            "start" => hang.start_timeout(limit).await,
            _ => hang.heartbeat_timeout(limit).await,
        };
        Ok(match which.as_str() {
            "start" => matches!(ended, Err(TaskError::NotStarted)),
            "heartbeat" => matches!(ended, Err(TaskError::WorkerLost)),
            _ => matches!(ended, Err(TaskError::TimedOut)),
        })
    }
}

const LIMITS: [&str; 4] = ["attempt", "overall", "start", "heartbeat"];

#[tokio::test(start_paused = true)]
async fn a_limit_that_never_comes_limits_nothing() {
    let never = Duration::MAX;
    let connecting = partitura::connect("memory:").wait(never);
    let partitura = connecting.with(move |to| to.drain_within(never).retention(never).ask_again(never)).await;
    let partitura = partitura.expect("connected");
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Limited>();
    let worker = worker.retention::<Limited>(never).try_elsewhere(never).start().await.expect("a worker");
    for which in LIMITS {
        let limited = partitura.client().workflow::<Limited>(which);
        let start = limited.start((which.to_owned(), never)).timeout(never).run_timeout(never);
        start.retry(Retry::fixed(never)).await.expect("started");
        assert!(soon(limited.result()).await.expect("a result"), "{which}");
    }
    let late = partitura.client().workflow::<Limited>("late");
    late.start(("attempt".to_owned(), never)).after(never).await.expect("sent");
    late.start(("attempt".to_owned(), never)).at(partitura::jiff::Timestamp::MAX).await.expect("sent");
    assert!(tokio::time::timeout(days(20_000), late.result()).await.is_err(), "it began");
    soon(worker.stop()).await.expect("stopped");
}

/// In real time: moments are those of the machine's clock, and a paused one would run away from it.
#[tokio::test]
async fn a_limit_of_zero_is_over_at_once() {
    let zero = Duration::ZERO;
    let connecting = partitura::connect("memory:").wait(zero);
    let partitura = connecting.with(move |to| to.drain_within(zero).retention(zero).ask_again(zero)).await;
    let partitura = partitura.expect("connected");
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Limited>();
    let worker = worker.retention::<Limited>(minutes(1)).try_elsewhere(zero).start().await.expect("a worker");
    for which in LIMITS {
        let limited = partitura.client().workflow::<Limited>(which);
        limited.start((which.to_owned(), zero)).await.expect("started");
        assert!(soon(limited.result()).await.expect("a result"), "{which}");
    }
    for whole in [true, false] {
        let limited = partitura.client().workflow::<Limited>(format!("{whole}"));
        let start =
            limited.start(("attempt".to_owned(), zero)).after(zero).at("1000-01-01T00:00:00Z".parse().expect("a date"));
        if whole { start.timeout(zero).await } else { start.run_timeout(zero).await }.expect("started");
        let ended = soon(limited.result()).await;
        assert!(matches!(ended, Err(WorkflowError::TimedOut(_)) | Ok(_)), "{ended:?}");
    }
    soon(worker.stop()).await.expect("stopped");
}
