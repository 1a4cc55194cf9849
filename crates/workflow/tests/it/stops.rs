use std::sync::Mutex;
use std::task::{Poll, Waker};

use partitura::{Cx, Definition, Event, EventKind, Execution, Never, StopReason, days};
use partitura_macros::workflow;

use crate::harness::{Live, START, reason, replay, started};

macro_rules! workflow_that {
    ($name:ident, |$cx:ident| $body:expr) => {
        #[derive(Default)]
        struct $name;

        #[workflow]
        impl $name {
            #[run]
            async fn run($cx: Cx<Self>) -> Result<(), Never> {
                $body;
                Ok(())
            }
        }
    };
}

workflow_that!(Panics, |cx| {
    let slept = cx.sleep(days(1)).await;
    assert!(slept.is_err(), "index out of bounds, say");
});

#[test]
fn a_panic_stops_the_instance_and_says_so_every_time() {
    let mut live = Live::<Panics>::start(());
    let stop = live.try_apply(EventKind::TimerFired { seq: 1 }).unwrap_err();
    assert_eq!(
        stop.to_string(),
        "workflow Panics/order-42 stopped: its code panicked: index out of bounds, say\n  \
         repair the code; the instance goes on from its history when a worker with it starts"
    );
    assert_eq!(live.try_apply(EventKind::TimerFired { seq: 1 }).unwrap_err(), stop);
    assert!(!live.execution.is_closed());
    replay::<Panics>(&live.history).unwrap();
}

workflow_that!(AwaitsForeign, |_cx| std::future::pending::<()>().await);

#[test]
fn waiting_for_something_foreign_is_detected_at_once() {
    let stop =
        Execution::start(&Definition::for_workflow::<AwaitsForeign>(), started::<AwaitsForeign>(&())).unwrap_err();
    assert_eq!(
        stop.to_string(),
        "workflow AwaitsForeign/order-42 stopped: its code waits for something that is not of its context\n  \
         a workflow awaits only what its context gives: cx.sleep for time, a service or cx.step for I/O, cx.until or cx.channel for \
         signals"
    );
}

static SMUGGLED: Mutex<Option<Waker>> = Mutex::new(None);

workflow_that!(WokenFromOutside, |cx| {
    let smuggle = std::future::poll_fn(|context| {
        *SMUGGLED.lock().unwrap() = Some(context.waker().clone());
        Poll::<()>::Pending
    });
    let _ = partitura::join!(smuggle, cx.sleep(days(1)));
});

#[test]
fn being_woken_from_outside_of_a_turn_is_detected_with_the_next_input() {
    let definition = Definition::for_workflow::<WokenFromOutside>();
    let (mut execution, _) = Execution::start(&definition, started::<WokenFromOutside>(&())).unwrap();
    SMUGGLED.lock().unwrap().take().unwrap().wake();
    let stopped = reason(execution.apply(Event::new(START, EventKind::TimerFired { seq: 1 })));
    assert!(matches!(stopped, StopReason::Foreign { what } if what.contains("woken by something outside")));
}

workflow_that!(Spins, |cx| {
    let yields = std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        Poll::<()>::Pending
    });
    let _ = partitura::join!(yields, cx.sleep(days(1)));
});

#[test]
fn a_busy_loop_is_stopped() {
    let stop = Execution::start(&Definition::for_workflow::<Spins>(), started::<Spins>(&())).unwrap_err();
    assert_eq!(stop.reason, StopReason::Spinning);
}

workflow_that!(StateInState, |cx| {
    let inner = cx.clone();
    let _ = cx.until(move |_| inner.state(|_| true)).await;
});

#[test]
fn a_deadlock_on_the_state_is_a_panic_with_advice() {
    let stop = Execution::start(&Definition::for_workflow::<StateInState>(), started::<StateInState>(&())).unwrap_err();
    assert!(stop.to_string().contains("cx.state(…) was called from within cx.state(…)"), "{stop}");
}

workflow_that!(ContextInStep, |cx| {
    let inner = cx.clone();
    let _ = cx.step("s", async move { Ok::<_, Never>(inner.now()) }).await;
});

#[test]
fn the_context_cannot_be_used_in_a_step() {
    use futures::FutureExt;
    let mut live = Live::<ContextInStep>::start(());
    let failure = live.steps.remove(0).future.now_or_never().unwrap().unwrap_err();
    assert!(failure.message.contains("used outside of the workflow's own code"), "{failure}");
}

#[test]
fn an_input_that_cannot_be_read_fails_the_instance() {
    #[derive(Default)]
    struct Typed;
    #[workflow]
    impl Typed {
        #[run]
        async fn run(_cx: Cx<Self>, input: u32) -> Result<u32, Never> {
            Ok(input)
        }
    }
    let mut first = started::<Typed>(&3);
    if let EventKind::WorkflowStarted(started) = &mut first.kind {
        started.input = partitura::Payload::from_json("\"three\"").unwrap();
    }
    let (execution, turn) = Execution::start(&Definition::for_workflow::<Typed>(), first).unwrap();
    assert!(execution.is_closed());
    assert_eq!(
        turn.events[0].to_string(),
        "WorkflowFailed (unknown: the input of workflow Typed: u32 could not be decoded: invalid type: string \"three\", expected u32 at \
         line 1 column 7)"
    );
}

#[test]
fn an_execution_moves_between_threads() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync + Clone>() {}
    is_send::<Execution>();
    is_send::<partitura::Turn>();
    is_shared::<Definition>();
}
