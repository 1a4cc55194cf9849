use partitura::{Cx, EventKind, Failure, TaskError, days};
use partitura_macros::workflow;
use serde::{Deserialize, Serialize};

use crate::calls::{Declined, PaymentsStub};
use crate::harness::Live;

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum TripError {
    #[error("payment: {0}")]
    Payment(#[from] TaskError<Declined>),
    #[error("gave up")]
    GaveUp,
}

#[derive(Default)]
struct Trip;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum How {
    QuestionMark,
    Fail,
    Complete,
    Succeed,
}

#[workflow]
impl Trip {
    #[run]
    async fn run(cx: Cx<Self>, how: How) -> Result<u32, TripError> {
        let payments = cx.service::<PaymentsStub>();
        let mut saga = cx.saga();
        for leg in ["flight", "hotel"] {
            let receipt = payments.charge(leg.to_owned(), 100).await?;
            saga.on_failure(payments.refund(receipt));
        }
        match how {
            How::QuestionMark => {
                payments.charge("car".to_owned(), 100).await?;
            }
            How::Fail => return saga.fail(TripError::GaveUp).await,
            How::Complete => {
                saga.complete();
                return Err(TripError::GaveUp);
            }
            How::Succeed => {}
        }
        Ok(200)
    }
}

fn booked(how: How) -> Live<Trip> {
    let mut live = Live::<Trip>::start(how);
    live.complete(1, "flight-receipt").complete(3, "hotel-receipt");
    live
}

fn refunds(live: &Live<Trip>) -> Vec<String> {
    live.history
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::TaskScheduled { method, args, .. } if method == "refund" => Some(args.as_json().to_owned()),
            _ => None,
        })
        .collect()
}

const NEWEST_FIRST: [&str; 2] = [r#"{"receipt":"hotel-receipt"}"#, r#"{"receipt":"flight-receipt"}"#];

#[test]
fn a_question_mark_compensates_newest_first_before_the_instance_ends() {
    let mut live = booked(How::QuestionMark);
    live.fail(5, Failure::application(&Declined("no".to_owned()), "no"));
    assert!(!live.execution.is_closed());
    live.complete(4, ());
    assert!(!live.execution.is_closed());
    live.complete(2, ());
    assert_eq!(refunds(&live), NEWEST_FIRST);
    assert_eq!(live.failure().message, "payment: declined: no");
}

#[test]
fn fail_compensates_where_it_is_called() {
    let mut live = booked(How::Fail);
    live.complete(4, ()).complete(2, ());
    assert_eq!(refunds(&live), NEWEST_FIRST);
    assert!(matches!(live.failure().details.as_ref().unwrap().decode(), Ok(TripError::GaveUp)));
}

#[test]
fn a_compensation_that_fails_is_reported_and_does_not_keep_the_others_from_running() {
    let mut live = booked(How::Fail);
    live.fail(4, Failure::application(&Declined("closed".to_owned()), "closed")).complete(2, ());
    assert_eq!(refunds(&live), NEWEST_FIRST);
    let failure = live.failure();
    assert_eq!(failure.message, "gave up");
    assert_eq!(failure.compensations[0].message, r#"Failed(Declined("closed"))"#);
}

#[test]
fn nothing_is_compensated_after_success_or_completion() {
    assert_eq!(booked(How::Succeed).result(), 200);
    let live = booked(How::Complete);
    assert_eq!(live.failure().message, "gave up");
    assert!(refunds(&live).is_empty());
}

#[test]
fn cancellation_compensates_too() {
    let mut live = booked(How::QuestionMark);
    live.cancel().complete(4, ()).complete(2, ());
    assert_eq!(refunds(&live), NEWEST_FIRST);
    assert!(matches!(live.execution.outcome(), Some(EventKind::WorkflowCancelled { .. })));
}

#[derive(Default)]
struct Patient;

#[workflow]
impl Patient {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), TaskError<Declined>> {
        let mut saga = cx.saga();
        let undo = cx.clone();
        saga.on_failure(async move {
            undo.sleep(days(1)).await?;
            undo.service::<PaymentsStub>().refund("later".to_owned()).await.map_err(|_| partitura::Cancelled)
        });
        cx.service::<PaymentsStub>().charge("o".to_owned(), 1).await?;
        Ok(())
    }
}

#[test]
fn a_compensation_may_be_a_whole_block_of_code() {
    let mut live = Live::<Patient>::start(());
    live.fail(1, crate::harness::panic_failure()).fire(2).complete(3, ());
    assert_eq!(live.failure().message, "the task panicked: boom");
}
