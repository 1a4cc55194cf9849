//! Never early, never backwards, never, for ever and zero.

use std::time::Duration;

use partitura::{
    Cx, Definition, Event, EventKind, Execution, Failure, FailureKind, Never, Retry, TaskOptions, days, millis, seconds,
};
use partitura_macros::workflow;

use crate::harness::{Live, START, started};

#[derive(Default)]
struct Clocked;

#[workflow]
impl Clocked {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<Vec<i64>, Never> {
        let mut seen = vec![cx.now().as_millisecond()];
        for _ in 0..2 {
            let _ = cx.sleep(seconds(1)).await;
            seen.push(cx.now().as_millisecond());
        }
        Ok(seen)
    }
}

#[test]
fn time_never_goes_backwards_for_the_code() {
    let (mut execution, _) = Execution::start(&Definition::for_workflow::<Clocked>(), started::<Clocked>(&())).unwrap();
    let turn = execution.apply(Event::new(START - 60_000, EventKind::TimerFired { seq: 1 })).unwrap();
    assert_eq!(turn.events[0].at, START);
    let turn = execution.apply(Event::new(START + 2_000, EventKind::TimerFired { seq: 2 })).unwrap();
    let EventKind::WorkflowCompleted { result } = &turn.events[0].kind else { panic!("not completed: {turn:?}") };
    let start = i64::try_from(START).unwrap();
    assert_eq!(result.decode::<Vec<i64>>().unwrap(), [start, start, start + 2_000]);
}

#[derive(Default)]
struct Sleeps;

#[workflow]
impl Sleeps {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Never> {
        let (_, _) = partitura::join!(cx.sleep(Duration::MAX), cx.sleep(days(36_500)));
        Ok(())
    }
}

#[test]
fn a_sleep_may_last_for_ever() {
    let live = Live::<Sleeps>::start(());
    let due: Vec<u64> = live
        .history
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::TimerStarted { due_at_ms, .. } => Some(due_at_ms),
            _ => None,
        })
        .collect();
    assert_eq!(due, [u64::MAX, START + 36_500 * 86_400_000]);
}

#[test]
fn a_first_wait_of_zero_retries_at_once_as_often_as_asked() {
    let retry = Retry::exponential().initial(Duration::ZERO).max_attempts(5_000);
    for attempt in 1..5_000 {
        assert_eq!(retry.delay(attempt, 0.5), Some(Duration::ZERO), "after attempt {attempt}");
    }
    assert_eq!(retry.delay(5_000, 0.5), None);
}

#[test]
fn a_policy_that_is_no_number_is_a_policy_all_the_same() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300] {
        let retry = Retry::exponential().coefficient(odd).jitter(odd).max_interval(seconds(60));
        let options = TaskOptions { retry: Some(retry), ..TaskOptions::default() };
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<TaskOptions>(&text).unwrap(), options, "{odd}: {text}");
        for attempt in [1, 2, 1_025, u32::MAX] {
            assert!(retry.delay(attempt, 0.0).unwrap() <= seconds(60), "{odd}");
        }
    }
    let at_once = Retry::fixed(millis(1)).coefficient(f64::INFINITY).max_interval(seconds(9));
    assert_eq!(at_once.delay(2, 0.0), Some(seconds(9)));
    let failure = Failure::new(FailureKind::Panic, "…").into();
    let options = TaskOptions { retry: Some(Retry::fixed(Duration::MAX)), ..TaskOptions::default() };
    assert!(options.retry_after(&failure, 1, 0.0).unwrap() <= days(3_650));
}
