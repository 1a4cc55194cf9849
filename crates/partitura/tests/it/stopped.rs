//! An instance whose code cannot go on: what arrives meanwhile, and what those who wait are told.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use partitura::history::EventKind;
use partitura::testing::TestEnv;
use partitura::{Cx, Signal, Status, WorkflowError, WorkflowHandle, millis, seconds};
use tokio::time::{Instant, sleep};

use crate::in_memory;
use crate::support::{Oops, Waits, WaitsSignal, soon};
use crate::troubled::{Troubled, Virtual, embedded};

/// A workflow that stops after a second unless its code is repaired, and ends once it is released. Each test has one of
/// its own.
macro_rules! flawed {
    ($name:ident, $repaired:ident) => {
        static $repaired: AtomicBool = AtomicBool::new(false);

        #[derive(Debug, Default)]
        struct $name {
            released: Option<String>,
        }

        #[partitura::workflow]
        impl $name {
            #[run]
            async fn run(cx: Cx<Self>) -> Result<String, Oops> {
                cx.sleep(seconds(1)).await?;
                assert!($repaired.load(Ordering::SeqCst), "not repaired yet");
                cx.until(|flawed: &Self| flawed.released.is_some()).await?;
                Ok(cx.state(|flawed| flawed.released.take()).unwrap_or_default())
            }

            #[signal]
            fn release(&mut self, with: String) {
                self.released = Some(with);
            }
        }
    };
}

/// Waits until the instance is stopped, and returns the reason.
async fn stops<W: partitura::Workflow>(handle: &WorkflowHandle<W>) -> String {
    soon(async {
        loop {
            if let Ok(Status::Stopped { reason }) = handle.describe().await.map(|described| described.status) {
                return reason;
            }
            sleep(millis(100)).await;
        }
    })
    .await
}

flawed!(Picky, PICKY_IS_REPAIRED);

#[tokio::test]
async fn a_signal_to_a_stopped_instance_that_cannot_be_read_is_refused_when_its_code_runs_again() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Picky>().start().await.expect("a worker");
    let picky = partitura.client().workflow::<Picky>("p");
    picky.start(()).await.expect("started");
    stops(&picky).await;
    picky.signal(Signal::to_channel("release", &[1, 2, 3])).await.expect("sent");
    picky.signal(PickySignal::release("fits".into())).await.expect("sent");
    PICKY_IS_REPAIRED.store(true, Ordering::SeqCst);
    picky.resume().await.expect("sent");
    assert_eq!(soon(picky.result()).await.expect("a result"), "fits");
    let history = soon(picky.history()).await.expect("a history");
    let refused = history.iter().find_map(|event| match &event.kind {
        EventKind::WorkflowResumed { refused } => Some(refused.len()),
        _ => None,
    });
    assert_eq!(refused, Some(1), "{history:?}");
    worker.stop().await.expect("stopped");
}

flawed!(Awaited, AWAITED_IS_REPAIRED);

#[tokio::test]
async fn those_who_wait_for_a_stopped_instance_are_told_why_unless_they_wait_on() {
    let env = TestEnv::new().workflow::<Awaited>();
    let awaited = env.start::<Awaited>("a", ()).await.unwatched().clone();
    let patient = tokio::spawn({
        let awaited = awaited.clone();
        async move { awaited.result_through_stops().await }
    });
    match soon(awaited.result()).await {
        Err(WorkflowError::Stopped { reason }) => assert!(reason.contains("not repaired yet"), "{reason}"),
        other => panic!("{other:?}"),
    }
    awaited.signal(AwaitedSignal::release("late".into())).confirmed().await.expect("kept");
    AWAITED_IS_REPAIRED.store(true, Ordering::SeqCst);
    awaited.resume().await.expect("sent");
    assert_eq!(soon(patient).await.expect("no panic").expect("a result"), "late");
    assert_eq!(soon(awaited.result()).await.expect("a result"), "late");
}

flawed!(Prompt, PROMPT_IS_REPAIRED);

#[tokio::test(start_paused = true)]
async fn those_who_wait_from_the_start_are_told_of_a_stop_within_a_moment() {
    let clock = Virtual::new();
    let partitura = Troubled::new(&embedded(&clock)).engine(&clock).await;
    let worker = partitura.worker().workflow::<Prompt>().start().await.expect("a worker");
    let prompt = partitura.client().workflow::<Prompt>("p");
    let began = Instant::now();
    prompt.start(()).await.expect("started");
    assert!(matches!(soon(prompt.result()).await, Err(WorkflowError::Stopped { .. })));
    // It stops after one second, and whether it stays so is looked at for two.
    assert!(began.elapsed() < seconds(4), "{:?}", began.elapsed());
    // One that is started again while it is stopped is told, too.
    let began = Instant::now();
    let again = partitura.client().workflow::<Prompt>("p");
    again.start(()).await.expect("taken as it is");
    assert!(matches!(soon(again.result()).await, Err(WorkflowError::Stopped { .. })));
    assert!(began.elapsed() < seconds(3), "{:?}", began.elapsed());
    PROMPT_IS_REPAIRED.store(true, Ordering::SeqCst);
    prompt.resume().await.expect("sent");
    prompt.signal(PromptSignal::release("done".into())).await.expect("sent");
    assert_eq!(soon(prompt.result()).await.expect("a result"), "done");
    worker.stop().await.expect("stopped");
}

flawed!(Unwanted, UNWANTED_IS_REPAIRED);

#[tokio::test(start_paused = true)]
async fn a_stopped_instance_that_is_cancelled_is_tried_at_once_and_keeps_the_request_until_its_code_goes_on() {
    let clock = Virtual::new();
    let partitura = Troubled::new(&embedded(&clock)).engine(&clock).await;
    let worker = partitura.worker().workflow::<Unwanted>().start().await.expect("a worker");
    let client = partitura.client();
    let (early, late) = (client.workflow::<Unwanted>("early"), client.workflow::<Unwanted>("late"));
    for stray in [&early, &late] {
        stray.start(()).await.expect("started");
        stops(stray).await;
    }
    early.cancel("too early").confirmed().await.expect("kept");
    stops(&early).await;
    UNWANTED_IS_REPAIRED.store(true, Ordering::SeqCst);
    let began = Instant::now();
    // Nobody resumes it.
    late.cancel("at last").confirmed().await.expect("taken");
    let cancelled = |result| matches!(result, Err(WorkflowError::Cancelled { reason, .. }) if reason == "at last");
    assert!(cancelled(soon(late.result()).await));
    assert!(began.elapsed() < seconds(3), "{:?}", began.elapsed());
    early.resume().await.expect("sent");
    let cancelled = |result| matches!(result, Err(WorkflowError::Cancelled { reason, .. }) if reason == "too early");
    assert!(cancelled(soon(early.result()).await));
    worker.stop().await.expect("stopped");
}

static TRIES: AtomicU32 = AtomicU32::new(0);

/// Stops each time that it is tried.
#[derive(Debug, Default)]
struct Hopeless;

#[partitura::workflow]
impl Hopeless {
    #[run]
    async fn run(_cx: Cx<Self>) -> Result<(), Oops> {
        TRIES.fetch_add(1, Ordering::SeqCst);
        std::panic::resume_unwind(Box::new("hopeless"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_build_tries_a_stopped_instance_once_when_it_takes_over() {
    let clock = Virtual::new();
    let partitura = Troubled::new(&embedded(&clock)).engine(&clock).await;
    let start =
        async |build: &str| partitura.worker().workflow::<Hopeless>().build_id(build).start().await.expect("a worker");
    let tries = async || {
        // More than a turn takes, and less than until it tries by itself.
        sleep(seconds(5)).await;
        TRIES.load(Ordering::SeqCst)
    };
    let worker = start("1").await;
    let hopeless = partitura.client().workflow::<Hopeless>("h");
    hopeless.start(()).await.expect("started");
    stops(&hopeless).await;
    let first = tries().await;
    worker.stop().await.expect("stopped");
    // The same code again.
    let worker = start("1").await;
    assert_eq!(tries().await, first);
    worker.stop().await.expect("stopped");
    // Two workers with other code: one of them owns it.
    let (worker, other) = (start("2").await, start("2").await);
    let second = tries().await;
    assert!(second > first);
    for worker in [worker, other] {
        worker.stop().await.expect("stopped");
        assert_eq!(tries().await, second);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_history_is_longer_than_allowed_stops_until_more_is_allowed() {
    let clock = Virtual::new();
    let broker = embedded(&clock);
    let most = |events| {
        let mut limits = partitura::HistoryLimits::default();
        limits.most_events = events;
        partitura::Partitura::on(broker.clone()).clock(clock.clone()).history_limits(limits)
    };
    let small = most(4).await.expect("an engine");
    let worker = small.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = small.client().workflow::<Waits>("w");
    waits.start(()).await.expect("started");
    for number in 0..9_u32 {
        waits.signal(Signal::to_channel("unread", &number)).confirmed().await.expect("recorded");
    }
    let stopped = waits.result().await.expect_err("it is too long");
    assert!(stopped.to_string().contains("continue as new"), "{stopped}");
    // It is tried again by itself, without success.
    tokio::time::sleep(partitura::hours(1)).await;
    assert!(matches!(soon(waits.describe()).await.expect("known").status, Status::Stopped { .. }));
    worker.stop().await.expect("stopped");
    let large = most(1_000).await.expect("an engine");
    let worker = large.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = large.client().workflow::<Waits>("w");
    waits.signal(WaitsSignal::release("long".into())).await.expect("sent");
    assert_eq!(waits.result_through_stops().await.expect("a result"), "long");
    worker.stop().await.expect("stopped");
}
