use partitura::{Cancelled, ChildError, Cx, EventKind, Never, TaskError, days, join};
use partitura_macros::workflow;

use crate::calls::PaymentsStub;
use crate::harness::{Live, payload};

#[derive(Default)]
struct Everything;

#[workflow]
impl Everything {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, String> {
        let payments = cx.service::<PaymentsStub>();
        let channel = cx.channel::<u32>("numbers");
        let (task, timer, child, step, until, signal) = join!(
            payments.rate("EUR".to_owned()),
            cx.sleep(days(1)),
            cx.child::<Everything>("inner").run(()),
            cx.step("wait", std::future::pending::<Result<(), Never>>()),
            cx.until(|_| false),
            channel.recv(),
        );
        assert_eq!(task, Err(TaskError::Cancelled));
        assert_eq!(timer, Err(Cancelled));
        assert_eq!(child, Err(ChildError::Cancelled));
        assert_eq!(step, Err(TaskError::Cancelled));
        assert_eq!(until, Err(Cancelled));
        assert_eq!(signal, Err(Cancelled.into()));
        assert!(cx.is_cancelled());
        let after = payments.rate("USD".to_owned()).await;
        Err(format!("cleaned up: {after:?}"))
    }
}

#[test]
fn cancellation_resolves_everything_pending_and_lets_the_code_clean_up() {
    let mut live = Live::<Everything>::start(());
    live.cancel();
    assert_eq!(
        live.commands()[4..],
        ["TaskCancelRequested #1", "TimerCancelled #2", "ChildCancelRequested #3", "TaskScheduled Payments.rate"]
    );
    live.ignored(EventKind::TaskCompleted { seq: 1, result: payload(&3) });
    live.ignored(EventKind::CancelRequested { reason: None });
    live.complete(5, 8);
    assert_eq!(live.failure().message, "cleaned up: Ok(8)");
    assert!(
        matches!(live.execution.outcome(), Some(EventKind::WorkflowCancelled { reason: Some(reason), .. }) if reason == "changed my mind")
    );
}

#[derive(Default)]
struct Stubborn;

#[workflow]
impl Stubborn {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<bool, Never> {
        let first = cx.sleep(days(1)).await;
        let second = cx.sleep(days(1)).await;
        Ok(first.is_err() && second.is_ok())
    }
}

#[test]
fn cancellation_is_an_edge_and_may_be_answered_with_a_result() {
    let mut live = Live::<Stubborn>::start(());
    live.cancel().fire(2);
    assert!(live.result());
}

#[derive(Default)]
struct Handles;

#[workflow]
impl Handles {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<bool, Never> {
        let task = cx.service::<PaymentsStub>().rate("EUR".to_owned()).start();
        let child = cx.child::<Stubborn>("c").start(());
        let mut timer = cx.sleep(days(1)).start();
        let mut unstarted = cx.sleep(days(2));
        task.cancel();
        child.cancel();
        timer.cancel();
        unstarted.cancel();
        let all = join!(task, child, timer, unstarted);
        Ok(matches!(all, (Err(TaskError::Cancelled), Err(ChildError::Cancelled), Err(Cancelled), Err(Cancelled))))
    }
}

#[test]
fn a_handle_cancels_what_it_started() {
    let live = Live::<Handles>::start(());
    assert!(live.result());
    assert_eq!(live.commands()[3..], ["TaskCancelRequested #1", "ChildCancelRequested #2", "TimerCancelled #3"]);
}

#[test]
fn an_imposed_end_closes_the_instance_without_its_code() {
    use partitura::{Failure, FailureKind};
    let mut live = Live::<Stubborn>::start(());
    live.apply(EventKind::WorkflowFailed { failure: Failure::new(FailureKind::Terminated, "by an operator") });
    assert!(live.execution.is_closed());
    assert_eq!(live.commands().len(), 1);
}
