//! Dropping a future cancels what it began.

use partitura::{Cx, Event, EventKind, Never, TaskError, days, hours, join_all};
use partitura_macros::{select, workflow};

use crate::calls::PaymentsStub;
use crate::harness::{Live, payload, reason, replay, started};

#[derive(Default)]
struct Race;

#[workflow]
impl Race {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Never> {
        let payments = cx.service::<PaymentsStub>();
        let first = select! {
            rate = payments.rate("EUR".to_owned()) => format!("{rate:?}"),
            _ = cx.sleep(days(1)) => "slept".to_owned(),
            _ = cx.child::<Race>("c").run(()) => "child".to_owned(),
        };
        let _ = cx.sleep(hours(1)).await;
        Ok(first)
    }
}

#[test]
fn the_losers_of_a_select_are_cancelled_in_the_turn_that_decides_it() {
    let mut live = Live::<Race>::start(());
    live.fire(2);
    assert_eq!(
        live.lines()[3..],
        ["TimerFired #2", "TimerStarted 1h", "TaskCancelRequested #1", "ChildCancelRequested #3"]
    );
    assert!(!live.execution.is_open(1) && !live.execution.is_open(3) && live.execution.is_open(4));
    live.ignored(EventKind::TaskCompleted { seq: 1, result: payload(&3) });
    live.fire(4);
    assert_eq!(live.result(), "slept");
}

#[test]
fn a_timer_that_loses_is_cancelled_too() {
    let mut live = Live::<Race>::start(());
    live.complete(1, 3);
    assert_eq!(live.lines()[4..], ["TimerStarted 1h", "TimerCancelled #2", "ChildCancelRequested #3"]);
}

#[derive(Default)]
struct Disorder;

#[workflow]
impl Disorder {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, Never> {
        let payments = cx.service::<PaymentsStub>();
        let all = join_all((0..3).map(|n| payments.rate(n.to_string())));
        let mut third = Box::pin(cx.sleep(days(3)));
        let mut second = Box::pin(cx.sleep(days(2)));
        let unpolled = cx.sleep(days(4));
        let quickest = select! {
            _ = all => 1,
            _ = &mut third => 2,
            _ = &mut second => 3,
            _ = cx.sleep(days(1)) => 4,
        };
        drop(second);
        drop(third);
        drop(unpolled);
        Ok(quickest)
    }
}

#[test]
fn cancellations_are_recorded_in_the_order_of_their_numbers_before_the_end() {
    let mut live = Live::<Disorder>::start(());
    live.fire(7);
    assert_eq!(
        live.lines()[7..],
        [
            "TaskCancelRequested #1",
            "TaskCancelRequested #2",
            "TaskCancelRequested #3",
            "TimerCancelled #4",
            "TimerCancelled #5",
            "WorkflowCompleted"
        ]
    );
}

#[derive(Default)]
struct Handles;

#[workflow]
impl Handles {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, TaskError<Never>> {
        let payments = cx.service::<PaymentsStub>();
        drop(payments.rate("dropped".to_owned()).start());
        drop(cx.sleep(days(9)).start());
        drop(cx.child::<Race>("dropped").start(()));
        let mut kept = payments.rate("kept".to_owned()).start();
        select! {
            _ = &mut kept => {},
            _ = cx.sleep(days(1)) => {},
        }
        payments.rate("detached".to_owned()).start().detach().unwrap();
        cx.child::<Race>("detached").start(()).detach().unwrap();
        let _ = cx.sleep(days(1)).await;
        Ok(7)
    }
}

#[test]
fn a_handle_that_is_dropped_cancels_nothing_and_a_detached_task_is_let_go() {
    let mut live = Live::<Handles>::start(());
    live.fire(5);
    assert_eq!(
        live.lines()[5..],
        [
            "TimerFired #5",
            "TaskScheduled Payments.rate",
            "Detached #6",
            "ChildStarted Race/detached",
            "Detached #7",
            "TimerStarted 1d"
        ]
    );
    assert!(live.execution.is_open(1) && !live.execution.is_open(6));
    live.fire(8);
    // Open commands are cancelled as an effect of the end: its history says nothing more.
    assert_eq!(live.lines().last().unwrap(), "WorkflowCompleted");
    assert_eq!(live.lines().len(), 13);
}

#[test]
fn cancellation_leaves_alone_what_was_detached() {
    let mut live = Live::<Handles>::start(());
    live.fire(5);
    live.cancel();
    let cancelled: Vec<String> = live.commands().into_iter().filter(|line| line.contains("Cancel")).collect();
    assert_eq!(
        cancelled,
        [
            "TaskCancelRequested #1",
            "TimerCancelled #2",
            "ChildCancelRequested #3",
            "TaskCancelRequested #4",
            "TimerCancelled #8"
        ]
    );
}

#[test]
fn a_step_that_lost_is_not_run_again_and_its_result_is_ignored() {
    #[derive(Default)]
    struct Reads;

    #[workflow]
    impl Reads {
        #[run]
        async fn run(cx: Cx<Self>) -> Result<u32, Never> {
            select! {
                _ = cx.step("read", async { Ok::<u32, Never>(1) }) => {},
                _ = cx.sleep(days(1)) => {},
            }
            let _ = cx.sleep(days(1)).await;
            Ok(2)
        }
    }

    let mut live = Live::<Reads>::start(());
    live.fire(2);
    let (_, turn) = replay::<Reads>(&live.history).unwrap();
    assert!(turn.steps.is_empty());
    live.ignored(EventKind::StepCompleted { seq: 1, result: payload(&1) });
}

/// Recorded before there were rules: the losers of a `select!` stand, and no cancellation is asked for.
const RECORDED: &str = include_str!("../golden/race-rules-0.json");

#[test]
fn a_history_of_earlier_rules_is_replayed_by_them() {
    let history: Vec<Event> = RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (mut execution, turn) = replay::<Race>(&history).unwrap();
    assert_eq!(turn.events, []);
    assert!(execution.is_open(1) && execution.is_open(3));
    // The task still gives its result, as it did when this was recorded.
    let late = execution.apply(Event::new(1, EventKind::TaskCompleted { seq: 1, result: payload(&3) })).unwrap();
    assert!(!late.ignored);
    let turn = execution.apply(Event::new(2, EventKind::TimerFired { seq: 4 })).unwrap();
    assert_eq!(turn.events.len(), 1);
    assert!(execution.is_closed());
}

#[test]
fn a_history_of_rules_that_are_not_known_yet_is_refused() {
    let mut first = started::<Race>(&());
    if let EventKind::WorkflowStarted(started) = &mut first.kind {
        started.rules = u32::MAX;
    }
    assert!(reason(replay::<Race>(&[first])).to_string().contains("rules"));
}
