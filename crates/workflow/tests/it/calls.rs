use partitura::{
    Cx, Failure, FailureKind, Never, Payload, Retry, Task, TaskError, TaskHandle, TaskOptions, days, join_all, minutes,
};
use partitura_macros::{select, service, workflow};
use serde::{Deserialize, Serialize};

use crate::harness::{Live, payload};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("declined: {0}")]
pub(crate) struct Declined(pub(crate) String);

#[service]
pub(crate) trait Payments {
    async fn charge(&self, order: String, amount: u64) -> Result<String, Declined>;
    #[task(retry = Retry::fixed(minutes(1)), timeout = minutes(5))]
    async fn refund(&self, receipt: String) -> Result<(), Declined>;
    async fn rate(&self, currency: String) -> u64;
}

#[derive(Default)]
struct Sequential;

#[workflow]
impl Sequential {
    #[run]
    async fn run(cx: Cx<Self>, order: String) -> Result<String, TaskError<Declined>> {
        let payments = cx.service::<PaymentsStub>();
        let receipt = payments.charge(order, 3).retry(Retry::exponential().max_attempts(5)).await?;
        cx.sleep(days(3)).await.ok();
        payments.refund(receipt.clone()).await?;
        Ok(receipt)
    }
}

#[test]
fn calls_go_out_one_after_another_as_they_are_awaited() {
    let mut live = Live::<Sequential>::start("o-1".to_owned());
    live.complete(1, "receipt-7").fire(2).complete(3, ());
    assert_eq!(live.result(), "receipt-7");
    assert_eq!(
        live.lines(),
        [
            "TaskScheduled Payments.charge",
            "TaskCompleted #1",
            "TimerStarted 3d",
            "TimerFired #2",
            "TaskScheduled Payments.refund",
            "TaskCompleted #3",
            "WorkflowCompleted",
        ]
    );
}

#[test]
fn arguments_travel_by_name_and_options_with_the_task() {
    let mut live = Live::<Sequential>::start("o-1".to_owned());
    live.complete(1, "receipt-7").fire(2);
    let scheduled: Vec<(Payload, TaskOptions)> = live
        .history
        .iter()
        .filter_map(|event| match &event.kind {
            partitura::EventKind::TaskScheduled { args, options, .. } => Some((args.clone(), options.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(scheduled[0].0.as_json(), r#"{"order":"o-1","amount":3}"#);
    assert_eq!(scheduled[0].1.retry, Some(Retry::exponential().max_attempts(5)));
    assert_eq!(scheduled[1].1.retry, Some(Retry::fixed(minutes(1))));
    assert_eq!(scheduled[1].1.timeout, Some(minutes(5)));
}

#[test]
fn an_error_of_the_service_arrives_typed() {
    let mut live = Live::<Sequential>::start("o-1".to_owned());
    live.fail(1, Failure::application(&Declined("no funds".to_owned()), "no funds"));
    let error: TaskError<Declined> = live.failure().details.as_ref().unwrap().decode().unwrap();
    assert_eq!(error, TaskError::Failed(Declined("no funds".to_owned())));
    assert_eq!(live.failure().message, "declined: no funds");
}

#[test]
fn panics_time_outs_lost_workers_and_unknown_methods_are_errors_of_their_own() {
    let cases = [
        (FailureKind::Panic, TaskError::Panicked("boom".to_owned())),
        (FailureKind::TimedOut, TaskError::TimedOut),
        (FailureKind::WorkerLost, TaskError::WorkerLost),
        (FailureKind::Cancelled, TaskError::Cancelled),
        (FailureKind::Unknown, TaskError::Unknown("boom".to_owned())),
    ];
    for (kind, expected) in cases {
        let mut live = Live::<Sequential>::start("o-1".to_owned());
        live.fail(1, Failure::new(kind, "boom"));
        let error: TaskError<Declined> = live.failure().details.as_ref().unwrap().decode().unwrap();
        assert_eq!(error, expected);
    }
}

#[test]
fn a_result_of_another_type_is_reported_not_guessed() {
    let mut live = Live::<Sequential>::start("o-1".to_owned());
    live.complete(1, 17);
    assert!(live.failure().message.contains("expected a string"), "{}", live.failure().message);
}

#[derive(Default)]
struct Race;

#[workflow]
impl Race {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Never> {
        let payments = cx.service::<PaymentsStub>();
        let mut charge = payments.charge("o".to_owned(), 1).start();
        let winner = select! {
            receipt = &mut charge => receipt.unwrap_or_default(),
            rate = payments.rate("EUR".to_owned()) => format!("rate {rate:?}"),
            _ = cx.sleep(days(1)) => "too late".to_owned(),
        };
        Ok(winner)
    }
}

#[test]
fn select_takes_what_history_brings_first() {
    let mut live = Live::<Race>::start(());
    live.complete(2, 5);
    assert_eq!(live.result(), "rate Ok(5)");

    let mut live = Live::<Race>::start(());
    live.fire(3);
    assert_eq!(live.result(), "too late");

    let mut live = Live::<Race>::start(());
    live.complete(1, "receipt");
    assert_eq!(live.result(), "receipt");
}

#[derive(Default)]
struct Joined;

#[workflow]
impl Joined {
    #[run]
    async fn run(cx: Cx<Self>, calls: u64) -> Result<Vec<String>, TaskError<Declined>> {
        let payments = cx.service::<PaymentsStub>();
        let tasks: Vec<Task<String, Declined>> = (0..calls).map(|n| payments.charge(n.to_string(), n)).collect();
        join_all(tasks).await.into_iter().collect()
    }
}

#[test]
fn join_gives_results_in_the_order_of_the_calls_whatever_the_order_of_arrival() {
    let mut live = Live::<Joined>::start(3);
    live.complete(3, "c").complete(1, "a").complete(2, "b");
    assert_eq!(live.result(), ["a", "b", "c"]);
}

#[derive(Default)]
struct Started;

#[workflow]
impl Started {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(u64, u64), TaskError<Never>> {
        let payments = cx.service::<PaymentsStub>();
        let euro: TaskHandle<u64, Never> = payments.rate("EUR".to_owned()).start();
        let never_polled = payments.rate("GBP".to_owned());
        let dollar = payments.rate("USD".to_owned()).start();
        drop(never_polled);
        Ok((euro.await?, dollar.await?))
    }
}

#[test]
fn started_tasks_run_at_once_and_are_awaited_in_any_order() {
    let mut live = Live::<Started>::start(());
    assert_eq!(live.commands().len(), 2, "the one that was never polled did not go out");
    live.complete(3, 30).complete(1, 10);
    assert_eq!(live.result(), (10, 30));
}

#[test]
fn results_for_what_is_not_open_are_ignored() {
    let mut live = Live::<Started>::start(());
    let late = |seq| partitura::EventKind::TaskCompleted { seq, result: payload(&1) };
    assert!(live.execution.is_open(1) && !live.execution.is_open(2) && !live.execution.is_open(9));
    live.ignored(late(0)).ignored(late(2)).ignored(late(99)).ignored(partitura::EventKind::TimerFired { seq: 1 });
    live.complete(1, 10).ignored(late(1)).complete(3, 1).ignored(late(3));
    assert!(live.execution.is_closed());
}

#[derive(Default)]
struct Steps;

#[workflow]
impl Steps {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, TaskError<String>> {
        let first = cx.step("read", async { Ok::<_, String>(7) }).await?;
        let second = cx.step("fail", async { Err::<u32, _>("no such file".to_owned()) }).await;
        let third: Result<u32, TaskError<String>> = cx.step("panic", async { panic!("boom") }).await;
        Ok(format!("{first} {second:?} {third:?}"))
    }
}

#[test]
fn a_step_runs_once_and_its_outcome_is_recorded() {
    let mut live = Live::<Steps>::start(());
    assert_eq!(live.steps[0].name, "read");
    live.run_step().run_step().run_step();
    assert_eq!(live.result(), r#"7 Err(Failed("no such file")) Err(Panicked("boom"))"#);
}

#[test]
fn a_step_without_a_recorded_outcome_is_handed_out_again_by_replay() {
    let live = Live::<Steps>::start(());
    let (_, turn) = crate::harness::replay::<Steps>(&live.history).unwrap();
    assert_eq!(turn.steps.iter().map(|step| (step.seq, step.name.as_str())).collect::<Vec<_>>(), [(1, "read")]);
}
