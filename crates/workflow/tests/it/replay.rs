use partitura::{Cx, Definition, Event, EventKind, Execution, Never, StopReason, TaskError, days};
use partitura_macros::workflow;

use crate::calls::PaymentsStub;
use crate::harness::{Live, START, payload, reason, replay, started};

#[derive(Default)]
struct Dice;

#[workflow]
impl Dice {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(u64, f64, String, String), Never> {
        let first = cx.random::<u64>();
        let _ = cx.sleep(days(1)).await;
        Ok((first, cx.random(), cx.uuid().to_string(), cx.now().to_string()))
    }
}

#[test]
fn time_randomness_and_ids_are_the_same_in_every_replay() {
    let mut live = Live::<Dice>::start(());
    live.fire(1);
    let (replayed, _) = replay::<Dice>(&live.history).unwrap();
    assert_eq!(replayed.outcome(), live.execution.outcome());
    let (_, fraction, uuid, now) = live.result();
    assert!((0.0..1.0).contains(&fraction));
    assert_eq!(uuid.as_bytes()[14], b'4');
    assert_eq!(now, "2023-11-14T22:13:21Z");
}

#[derive(Default)]
struct Charging;

#[workflow(name = "Changing")]
impl Charging {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u64, TaskError<Never>> {
        let rate = cx.service::<PaymentsStub>().rate("EUR".to_owned()).await?;
        cx.service::<PaymentsStub>().rate("USD".to_owned()).await.map(|other| rate + other)
    }
}

#[derive(Default)]
struct Sleeping;

#[workflow(name = "Changing")]
impl Sleeping {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u64, TaskError<Never>> {
        let rate = cx.service::<PaymentsStub>().rate("EUR".to_owned()).await?;
        let _ = cx.sleep(days(3)).await;
        Ok(rate)
    }
}

#[derive(Default)]
struct Shorter;

#[workflow(name = "Changing")]
impl Shorter {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u64, TaskError<Never>> {
        cx.service::<PaymentsStub>().rate("EUR".to_owned()).await
    }
}

#[derive(Default)]
struct Reordered;

#[workflow(name = "Changing")]
impl Reordered {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u64, TaskError<Never>> {
        let other = cx.service::<PaymentsStub>().rate("GBP".to_owned());
        let rate = cx.service::<PaymentsStub>().rate("EUR".to_owned()).await?;
        other.await.map(|other| rate + other)
    }
}

fn history() -> Vec<Event> {
    let mut live = Live::<Charging>::start(());
    live.complete(1, 3);
    live.history
}

#[test]
fn changed_code_is_stopped_with_both_sides_and_advice() {
    let stop = replay::<Sleeping>(&history()).unwrap_err();
    assert_eq!(
        stop.to_string(),
        "workflow Changing/order-42 stopped: non-deterministic at event 3\n  \
         history: TaskScheduled Payments.rate   code: TimerStarted 3d\n  \
         the code changed under a running instance; guard the change with cx.version(\"…\", 1..=2), and the instance \
         goes on when a worker with that code starts"
    );
}

#[test]
fn code_that_ends_early_or_waits_or_counts_otherwise_is_stopped_too() {
    let stopped = |reason: StopReason| match reason {
        StopReason::NonDeterministic { event_index, history, code } => (event_index, history, code),
        other => panic!("{other}"),
    };
    let (index, _, code) = stopped(reason(replay::<Shorter>(&history())));
    assert_eq!((index, code.as_str()), (3, "WorkflowCompleted"));

    let (index, said, did) = stopped(reason(replay::<Reordered>(&history())));
    assert_eq!(index, 1);
    assert_eq!((said.as_str(), did.as_str()), ("TaskScheduled Payments.rate (#1)", "TaskScheduled Payments.rate (#2)"));

    let mut longer = history();
    longer.push(Event::new(START, EventKind::TimerStarted { seq: 3, due_at_ms: START, after_ms: None }));
    let (index, _, code) = stopped(reason(replay::<Charging>(&longer)));
    assert_eq!((index, code.as_str()), (4, "nothing, it waits"));
}

#[test]
fn what_the_code_asks_for_beyond_the_history_comes_out_of_the_replay() {
    let mut cut = history();
    cut.pop();
    let (mut execution, turn) = replay::<Charging>(&cut).unwrap();
    assert_eq!(turn.events, [history().pop().unwrap()]);
    let turn = execution.apply(Event::new(START, EventKind::TaskCompleted { seq: 2, result: payload(&4) })).unwrap();
    assert_eq!(turn.events[0].kind, EventKind::WorkflowCompleted { result: payload(&7) });
}

#[test]
fn inputs_recorded_ahead_of_the_commands_of_earlier_inputs_are_fine() {
    let first = started::<Dice>(&());
    let mut live = Live::<Dice>::start(());
    live.signal("nobody-listens", 1);
    // As if the signal had been recorded before the first turn was.
    let reordered = vec![first, live.history[2].clone(), live.history[1].clone()];
    let (_, turn) = replay::<Dice>(&reordered).unwrap();
    assert_eq!(turn.events, []);
}

#[test]
fn a_history_without_a_start_or_of_another_workflow_is_refused() {
    let definition = Definition::for_workflow::<Dice>();
    assert!(matches!(reason(Execution::replay(&definition, [])), StopReason::BadInput { .. }));
    assert!(matches!(reason(Execution::replay(&definition, history())), StopReason::BadInput { .. }));
}

#[test]
fn heartbeats_are_for_the_record_only() {
    let mut live = Live::<Charging>::start(());
    live.apply(EventKind::TaskHeartbeat { seq: 1, attempt: 1, details: None });
    live.complete(1, 3);
    live.ignored(EventKind::TaskHeartbeat { seq: 1, attempt: 1, details: None });
}
