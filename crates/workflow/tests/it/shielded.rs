//! Code that cancellation does not reach.

use partitura::{Cancelled, ChildError, Cx, EventKind, Failure, Never, days, hours, join};
use partitura_macros::{select, workflow};
use serde::{Deserialize, Serialize};

use crate::calls::{Declined, PaymentsStub};
use crate::harness::{Live, payload, replay};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    Propagate,
    Fail,
    /// Gives `saga.fail` up in the middle.
    GiveUp,
}

/// Undoes a charge in two calls.
#[derive(Default)]
struct Order;

#[workflow]
impl Order {
    #[run]
    async fn run(cx: Cx<Self>, how: How) -> Result<(), String> {
        let mut saga = cx.saga();
        let undo = cx.clone();
        saga.on_failure(async move {
            let payments = undo.service::<PaymentsStub>();
            let receipt = payments.rate("void".to_owned()).await.map_err(|error| error.to_string())?;
            payments.refund(receipt.to_string()).await.map_err(|error| error.to_string())
        });
        let charged = cx.service::<PaymentsStub>().charge("o".to_owned(), 1).await;
        let error = charged.map_err(|error| error.to_string()).expect_err("it is declined");
        match how {
            How::Propagate => Err(error),
            How::Fail => saga.fail(error).await,
            How::GiveUp => {
                let failing = saga.fail::<(), _>(error.clone());
                select! {
                    _ = failing => {},
                    _ = cx.sleep(hours(1)) => {},
                }
                Err(error)
            }
        }
    }
}

fn declined() -> Failure {
    Failure::application(&Declined("no funds".to_owned()), "no funds")
}

#[test]
fn a_compensation_runs_to_its_end_though_the_workflow_is_cancelled_meanwhile() {
    for how in [How::Propagate, How::Fail] {
        let mut live = Live::<Order>::start(how);
        live.fail(1, declined());
        live.cancel();
        assert_eq!(live.lines().last().unwrap(), "CancelRequested", "{how:?}");
        live.complete(2, 7);
        assert_eq!(live.lines().last().unwrap(), "TaskScheduled Payments.refund", "{how:?}");
        live.complete(3, ());
        let Some(EventKind::WorkflowCancelled { failure: Some(failure), .. }) = live.execution.outcome() else {
            panic!("{how:?}: {:?}", live.execution.outcome());
        };
        assert!(failure.message.contains("no funds"), "it says why it had failed: {failure}");
        assert!(failure.compensations.is_empty());
    }
}

#[test]
fn a_failed_compensation_is_data_beside_the_first_cause() {
    let mut live = Live::<Order>::start(How::Propagate);
    live.fail(1, declined()).cancel().complete(2, 7);
    live.fail(3, Failure::application(&Declined("closed".to_owned()), "closed"));
    let failure = live.failure().clone();
    let compensations: Vec<&str> = failure.compensations.iter().map(|failed| failed.message.as_str()).collect();
    assert_eq!(compensations, [r#""declined: closed""#]);
    let text = serde_json::to_string(&failure).unwrap();
    assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
    assert!(failure.to_string().contains("no funds; a compensation failed"), "{failure}");
    match ChildError::<String>::from(failure) {
        ChildError::Uncompensated { error, compensations } => {
            assert!(error.contains("no funds"));
            assert_eq!(compensations.len(), 1);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_compensation_that_was_given_up_goes_on_when_the_workflow_fails() {
    let mut live = Live::<Order>::start(How::GiveUp);
    live.fail(1, declined()).fire(2);
    assert!(live.execution.is_open(3), "its task is not cancelled by the drop of `saga.fail`");
    live.cancel().complete(3, 7).complete(4, ());
    assert!(live.failure().compensations.is_empty());
    assert_eq!(live.commands().iter().filter(|line| line.contains("refund")).count(), 1);
}

/// Two futures behind a shield, and what comes after.
#[derive(Default)]
struct Both {
    open: bool,
}

#[workflow]
impl Both {
    #[run]
    async fn run(cx: Cx<Self>, beside: bool) -> Result<String, Never> {
        let payments = cx.service::<PaymentsStub>();
        let shielded = cx.shielded(async {
            let (rate, signal, open, child) = join!(
                payments.rate("EUR".to_owned()),
                cx.channel::<u32>("numbers").recv(),
                cx.until(|state| state.open),
                cx.child::<Both>("inner").run(false),
            );
            let step = cx.step("step", async { Ok::<u32, Never>(1) }).await;
            format!("{rate:?} {signal:?} {open:?} {child:?} {step:?}")
        });
        let told = async {
            match beside {
                true => cx.sleep(days(1)).await == Err(Cancelled),
                false => false,
            }
        };
        let (shielded, told) = join!(shielded, told);
        let next = cx.sleep(days(1)).await;
        let after = cx.sleep(days(1)).await;
        Ok(format!("{shielded} told={told} next={next:?} after={after:?}"))
    }

    #[signal]
    fn open(&mut self) {
        self.open = true;
    }
}

const WITHIN: &str = r#"Ok(3) Ok(5) Ok(()) Ok("done") Ok(1)"#;

fn finish_within(live: &mut Live<Both>, child: u32) {
    live.complete(1, 3).signal("numbers", 5).signal("open", ());
    live.apply(EventKind::ChildCompleted { seq: child, result: payload(&"done") });
    live.run_step();
}

#[test]
fn nothing_behind_a_shield_is_cancelled_and_what_comes_next_is() {
    let mut live = Live::<Both>::start(false);
    live.cancel();
    assert_eq!(live.lines().last().unwrap(), "CancelRequested");
    finish_within(&mut live, 2);
    // The first wait without a shield is never begun.
    live.fire(5);
    assert_eq!(live.result(), format!("{WITHIN} told=false next=Err(Cancelled) after=Ok(())"));
}

#[test]
fn a_cancellation_that_was_heard_beside_the_shield_is_not_heard_again() {
    let mut live = Live::<Both>::start(true);
    live.cancel();
    assert_eq!(live.lines().last().unwrap(), "TimerCancelled #3");
    finish_within(&mut live, 2);
    live.fire(5).fire(6);
    assert_eq!(live.result(), format!("{WITHIN} told=true next=Ok(()) after=Ok(())"));
}

/// Awaits, behind a shield and then without, what was begun before.
#[derive(Default)]
struct Outside;

#[workflow]
impl Outside {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Never> {
        let mut task = cx.service::<PaymentsStub>().rate("EUR".to_owned()).start();
        let first = cx
            .shielded(async {
                select! {
                    rate = &mut task => format!("{rate:?}"),
                    _ = cx.sleep(hours(1)) => "an hour".to_owned(),
                }
            })
            .await;
        Ok(format!("{first} {:?}", task.await))
    }
}

#[test]
fn what_is_awaited_behind_a_shield_is_shielded_and_open_again_outside() {
    let mut live = Live::<Outside>::start(());
    live.cancel();
    assert!(live.execution.is_open(1));
    live.fire(2);
    assert_eq!(live.lines().last().unwrap(), "WorkflowCompleted");
    assert_eq!(live.result(), "an hour Err(Cancelled)");

    let mut live = Live::<Outside>::start(());
    live.fire(2).cancel();
    assert_eq!(live.result(), "an hour Err(Cancelled)");
}

#[test]
fn under_earlier_rules_cancellation_reaches_compensations() {
    let mut live = Live::<Order>::start(How::Propagate);
    live.fail(1, declined());
    let mut old = live.history.clone();
    if let EventKind::WorkflowStarted(started) = &mut old[0].kind {
        started.rules = 0;
    }
    let (mut execution, turn) = replay::<Order>(&old).unwrap();
    assert_eq!(turn.events, []);
    let turn = execution.apply(partitura::Event::new(1, EventKind::CancelRequested { reason: None })).unwrap();
    assert_eq!(turn.events[0].kind, EventKind::TaskCancelRequested { seq: 2 });
}
