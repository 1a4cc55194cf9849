//! Runs that fail and are tried again under the same id.

use partitura::{
    Cancelled, Continued, Cx, Definition, Event, EventKind, Execution, Failure, FailureKind, Retry, Started, Transient,
    Workflow, hours, seconds,
};
use partitura_macros::workflow;
use serde::{Deserialize, Serialize};

use crate::harness::{START, payload, replay, started};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Trouble {
    Busy,
    Closed,
    Cancelled,
}

impl From<Cancelled> for Trouble {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// Is busy up to its second attempt, and closed from the fourth on.
#[derive(Debug, Default)]
struct Import;

#[workflow(retry = Retry::fixed(seconds(10)), retry_if = |trouble| *trouble == Trouble::Busy)]
impl Import {
    #[run]
    async fn run(cx: Cx<Self>, closed_from: u32) -> Result<u32, Trouble> {
        if cx.attempt() >= closed_from {
            return Err(Trouble::Closed);
        }
        cx.sleep(hours(1)).await?;
        match cx.attempt() {
            1 | 2 => Err(Trouble::Busy),
            attempt => Ok(attempt),
        }
    }
}

fn start<W: Workflow>(input: &W::Input, change: impl FnOnce(&mut Started)) -> (Execution, Vec<Event>) {
    let mut event = started::<W>(input);
    let EventKind::WorkflowStarted(started) = &mut event.kind else { panic!("no start") };
    change(started);
    let (execution, turn) = Execution::start(&Definition::for_workflow::<W>(), event.clone()).unwrap();
    let mut history = vec![event];
    history.extend(turn.events);
    (execution, history)
}

fn fire((execution, history): &mut (Execution, Vec<Event>), seq: u32, at: u64) {
    let fired = Event::new(at, EventKind::TimerFired { seq });
    history.push(fired.clone());
    history.extend(execution.apply(fired).unwrap().events);
}

/// The attempt that follows.
fn next<W: Workflow>(input: &W::Input, (execution, history): &mut (Execution, Vec<Event>)) -> (Execution, Vec<Event>) {
    assert!(matches!(execution.outcome(), Some(EventKind::WorkflowRetried { .. })), "{:?}", execution.outcome());
    let (replayed, turn) = replay::<W>(history).unwrap();
    assert_eq!((replayed.outcome(), turn.events), (execution.outcome(), Vec::new()));
    let (continued, before) = (execution.take_continuation(), execution.started().clone());
    let at = history.last().unwrap().at;
    let (execution, mut history) = start::<W>(input, |started| *started = Started { continued, ..before });
    history[0].at = at;
    (execution, history)
}

fn policy<W: Workflow>(started: &mut Started) {
    started.retry = Definition::for_workflow::<W>().retry();
}

fn continued(run: &(Execution, Vec<Event>)) -> &Continued {
    run.0.started().continued.as_deref().unwrap()
}

#[test]
fn a_run_that_fails_is_followed_by_another_attempt_after_the_wait() {
    let mut run = start::<Import>(&9, policy::<Import>);
    assert_eq!(run.0.started().attempt(), 1);
    let message = EventKind::SignalReceived { name: "hint".into(), payload: payload(&1), message_id: "m-1".into() };
    run.1.push(Event::new(START, message.clone()));
    run.0.apply(Event::new(START, message)).unwrap();
    fire(&mut run, 1, START + 3_600_000);
    let mut second = next::<Import>(&9, &mut run);
    assert_eq!(continued(&second).begins_at, Some(START + 3_610_000));
    assert_eq!(continued(&second).signals.len(), 1, "no code has received it");
    assert_eq!((second.0.started().attempt(), second.1.len()), (2, 2), "it waits, and its code has not begun");
    fire(&mut second, 1, START + 3_610_000);
    fire(&mut second, 2, START + 7_210_000);
    let mut third = next::<Import>(&9, &mut second);
    fire(&mut third, 1, START + 7_220_000);
    fire(&mut third, 2, START + 10_820_000);
    assert_eq!(third.0.outcome(), Some(&EventKind::WorkflowCompleted { result: payload(&3) }));
    let (replayed, turn) = replay::<Import>(&third.1).unwrap();
    assert_eq!((replayed.outcome(), turn.events), (third.0.outcome(), Vec::new()));
}

#[test]
fn an_error_that_is_final_fails_the_instance_in_whichever_attempt() {
    let (execution, _) = start::<Import>(&1, policy::<Import>);
    assert!(matches!(execution.outcome(), Some(EventKind::WorkflowFailed { .. })));
    let mut run = start::<Import>(&2, policy::<Import>);
    fire(&mut run, 1, START + 3_600_000);
    let mut second = next::<Import>(&2, &mut run);
    fire(&mut second, 1, START + 3_610_000);
    let Some(EventKind::WorkflowFailed { failure }) = second.0.outcome() else { panic!("{:?}", second.0.outcome()) };
    assert_eq!(failure.details, Some(payload(&Trouble::Closed)));
}

#[test]
fn no_attempt_follows_the_last_one_of_the_policy_nor_begins_after_the_deadline() {
    let mut once = start::<Import>(&9, |started| started.retry = Some(Retry::none()));
    fire(&mut once, 1, START + 3_600_000);
    assert!(matches!(once.0.outcome(), Some(EventKind::WorkflowFailed { .. })));
    let mut late = start::<Import>(&9, |started| {
        policy::<Import>(started);
        started.deadline = Some(START + 3_610_000);
    });
    fire(&mut late, 1, START + 3_600_000);
    assert!(matches!(late.0.outcome(), Some(EventKind::WorkflowFailed { .. })));
}

#[test]
fn what_is_cancelled_is_not_tried_again_also_while_an_attempt_waits() {
    let cancel = |at| Event::new(at, EventKind::CancelRequested { reason: None });
    let mut run = start::<Import>(&9, policy::<Import>);
    run.0.apply(cancel(START + 1)).unwrap();
    assert!(matches!(run.0.outcome(), Some(EventKind::WorkflowCancelled { .. })));
    let mut run = start::<Import>(&9, policy::<Import>);
    fire(&mut run, 1, START + 3_600_000);
    let mut second = next::<Import>(&9, &mut run);
    let cancelled = cancel(START + 3_601_000);
    second.1.push(cancelled.clone());
    second.1.extend(second.0.apply(cancelled).unwrap().events);
    assert!(matches!(second.0.outcome(), Some(EventKind::WorkflowCancelled { .. })));
    replay::<Import>(&second.1).unwrap();
}

#[test]
fn a_run_whose_time_is_over_is_tried_again_and_its_time_begins_after_the_wait() {
    let mut run = start::<Import>(&9, |started| {
        policy::<Import>(started);
        started.run_timeout_ms = Some(60_000);
    });
    let failure = Failure::new(FailureKind::TimedOut, "too long");
    let turn = run.0.retry_after(failure, START + 60_000).unwrap();
    assert_eq!(turn.events.len(), 1);
    run.1.extend(turn.events);
    let second = next::<Import>(&9, &mut run);
    assert_eq!(second.0.started().expires(START + 60_000), Some(START + 130_000));
    assert!(run.0.retry_after(Failure::new(FailureKind::TimedOut, "again"), START + 60_001).is_none(), "it has ended");
}

/// Fails with an error whose type says whether it passes.
#[derive(Debug, Default)]
struct Typed;

#[derive(Debug, Serialize, Deserialize)]
struct Passing(bool);

impl Transient for Passing {
    fn is_transient(&self) -> bool {
        self.0
    }
}

#[workflow(retry = Retry::fixed(seconds(1)))]
impl Typed {
    #[run]
    async fn run(cx: Cx<Self>, passes: bool) -> Result<(), Passing> {
        let _ = cx;
        Err(Passing(passes))
    }
}

#[test]
fn the_type_of_an_error_says_whether_it_is_tried_again() {
    let (passing, _) = start::<Typed>(&true, policy::<Typed>);
    assert!(matches!(passing.outcome(), Some(EventKind::WorkflowRetried { .. })));
    let (lasting, _) = start::<Typed>(&false, policy::<Typed>);
    assert!(matches!(lasting.outcome(), Some(EventKind::WorkflowFailed { .. })));
    let (unasked, _) = start::<Typed>(&true, |_| ());
    assert!(matches!(unasked.outcome(), Some(EventKind::WorkflowFailed { .. })), "there is no policy");
}
