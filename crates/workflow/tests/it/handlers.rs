//! Handlers that wait: they run beside `run`, in one order.

use partitura::{
    Cancelled, Cx, Definition, Event, EventKind, Execution, FailureKind, Payload, Started, StopReason, TaskError,
    Update, hours, seconds,
};
use partitura_macros::{service, workflow};
use serde::{Deserialize, Serialize};

use crate::harness::{Live, payload, reason, replay, started};

#[service]
trait Stock {
    async fn reserve(&self, item: String) -> u32;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum Trouble {
    #[error("no room")]
    NoRoom,
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("the task: {0}")]
    Task(String),
}

impl<E: std::fmt::Display> From<TaskError<E>> for Trouble {
    fn from(error: TaskError<E>) -> Self {
        Self::Task(error.to_string())
    }
}

/// Reserves what it is asked for, and notes what happens.
#[derive(Debug, Default)]
struct Booth {
    notes: Vec<String>,
    closed: bool,
}

#[workflow]
impl Booth {
    #[run]
    async fn run(cx: Cx<Self>, waits: bool) -> Result<Vec<String>, Cancelled> {
        cx.until(|booth: &Booth| booth.closed).await?;
        Self::note(&cx, "closes");
        if waits {
            cx.handlers_ended().await?;
        }
        Ok(cx.state(|booth| booth.notes.clone()))
    }

    /// Reserves an item, which takes a task and a minute.
    #[update(name = "book", validate = Self::has_room)]
    async fn reserve(cx: Cx<Self>, item: String) -> Result<u32, Trouble> {
        Self::note(&cx, &format!("{item} begins"));
        let seat = cx.service::<StockStub>().reserve(item.clone()).await?;
        Self::note(&cx, &format!("{item} has {seat}"));
        cx.sleep(seconds(60)).await?;
        Self::note(&cx, &format!("{item} ends"));
        Ok(seat)
    }

    fn has_room(&self, item: &str) -> Result<(), Trouble> {
        if item.len() > 8 { Err(Trouble::NoRoom) } else { Ok(()) }
    }

    #[update]
    async fn wait_until_closed(cx: Cx<Self>) -> usize {
        let _ = cx.until(|booth: &Booth| booth.closed).await;
        cx.state(|booth| booth.notes.len())
    }

    #[update]
    async fn at_once(cx: Cx<Self>) {
        Self::note(&cx, "at once");
    }

    #[update]
    async fn stumble(cx: Cx<Self>, late: bool) {
        if late {
            let _ = cx.sleep(seconds(1)).await;
        }
        panic!("it stumbles")
    }

    #[signal]
    async fn remind(cx: Cx<Self>, after: u64) {
        if cx.sleep(seconds(after)).await.is_ok() {
            Self::note(&cx, "reminds");
        }
    }

    #[signal]
    fn close(&mut self) {
        self.closed = true;
    }

    fn note(cx: &Cx<Self>, text: &str) {
        cx.state(|booth| booth.notes.push(text.to_owned()));
    }
}

#[test]
fn handlers_go_on_in_the_order_in_which_they_began_and_before_run() {
    let mut live = Live::<Booth>::start(true);
    live.update(BoothUpdate::reserve("a".into()), "u-a").update(BoothUpdate::reserve("b".into()), "u-b");
    live.update(BoothUpdate::wait_until_closed(), "u-c");
    live.complete(2, 20).complete(1, 10);
    assert!(live.execution.is_update_open("u-a") && live.execution.is_update_open("u-c"));
    // Both timers were started by then: b's first.
    live.fire(4).signal("close", ());
    assert!(!live.execution.is_update_open("u-c"), "it saw that the booth is closed");
    live.fire(3);
    let noted = ["a begins", "b begins", "b has 20", "a has 10", "a ends", "closes", "b ends"];
    assert_eq!(live.result(), noted);
    let answers = live.history.iter().filter_map(|event| match &event.kind {
        EventKind::UpdateCompleted { id, result } => Some(format!("{id} {}", result.as_json())),
        _ => None,
    });
    let answers: Vec<String> = answers.collect();
    assert_eq!(answers, ["u-a 10", "u-c 5", "u-b 20"]);
}

#[test]
fn a_handler_that_need_not_wait_answers_at_once() {
    let mut live = Live::<Booth>::start(true);
    live.update(BoothUpdate::at_once(), "u-1");
    assert_eq!(live.lines(), ["UpdateReceived at_once", "UpdateCompleted u-1"]);
    let (name, args) = BoothUpdate::reserve("far too long".into()).into_parts().unwrap();
    assert!(live.execution.check_update(&name, &args).is_err());
    // No argument is missing where none is needed.
    let (name, args) = Update::<Booth, (), Cancelled>::new("at_once", Ok(Payload::null())).into_parts().unwrap();
    live.apply(EventKind::UpdateReceived { name, args, id: "u-2".into() });
    let (replayed, _) = replay::<Booth>(&live.history).unwrap();
    assert!(!replayed.is_update_open("u-1"));
}

#[test]
fn what_is_open_when_run_returns_is_cancelled_without_an_answer() {
    let mut live = Live::<Booth>::start(false);
    live.update(BoothUpdate::reserve("a".into()), "u-a").signal("remind", serde_json::json!({"after": 5}));
    live.signal("close", ());
    assert_eq!(live.result(), ["a begins", "closes"]);
    let last: Vec<String> = live.lines().split_off(4);
    assert_eq!(last, ["SignalReceived close", "WorkflowCompleted"]);
    assert!(!live.execution.is_update_open("u-a"));
}

#[test]
fn a_signal_may_have_a_handler_that_waits() {
    let mut live = Live::<Booth>::start(true);
    live.signal("remind", serde_json::json!({"after": 5})).signal("close", ());
    assert!(live.execution.outcome().is_none(), "the reminder is open");
    live.fire(1);
    assert_eq!(live.result(), ["closes", "reminds"]);
    let unreadable = EventKind::SignalReceived { name: "remind".into(), payload: payload(&7), message_id: "m".into() };
    assert!(matches!(reason(Live::<Booth>::start(true).try_apply(unreadable)), StopReason::BadInput { .. }));
}

#[test]
fn the_cancellation_of_the_workflow_reaches_handlers() {
    let mut live = Live::<Booth>::start(true);
    live.update(BoothUpdate::reserve("a".into()), "u-a").cancel();
    let failure = live.history.iter().find_map(|event| match &event.kind {
        EventKind::UpdateFailed { failure, .. } => Some(failure.clone()),
        _ => None,
    });
    let failure = failure.unwrap();
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Application, "the task: the task was cancelled"));
    assert!(matches!(live.execution.outcome(), Some(EventKind::WorkflowCancelled { .. })));
}

#[test]
fn a_handler_that_panics_is_named_at_once_and_stops_the_instance_later() {
    let mut live = Live::<Booth>::start(true);
    let stumble = |late| {
        let (name, args) = BoothUpdate::stumble(late).into_parts().unwrap();
        EventKind::UpdateReceived { name, args, id: "u-1".into() }
    };
    let at_once = reason(live.try_apply(stumble(false)));
    assert!(
        matches!(&at_once, StopReason::HandlerPanicked { handler, .. } if handler == "update stumble"),
        "{at_once:?}"
    );
    let mut live = Live::<Booth>::start(true);
    live.apply(stumble(true));
    let later = reason(live.try_apply(EventKind::TimerFired { seq: 1 }));
    assert_eq!(later, StopReason::Panicked { message: "it stumbles".to_owned() });
}

/// Waits before it acts on a change, in a handler that a signal of the run before meets.
#[derive(Debug, Default)]
struct Relay {
    passed: u32,
}

#[workflow]
impl Relay {
    #[run]
    async fn run(cx: Cx<Self>, runs: u32) -> Result<u32, Cancelled> {
        let wait = if cx.version("patience", 1..=2) == 1 { 1 } else { 2 };
        cx.until(move |relay: &Relay| relay.passed >= wait).await?;
        if runs == 0 { Ok(cx.state(|relay| relay.passed)) } else { cx.continue_as_new(runs - 1).await }
    }

    #[signal]
    async fn pass(cx: Cx<Self>) {
        let times = cx.version("passes", 1..=3);
        if cx.sleep(hours(1)).await.is_ok() {
            cx.state(|relay| relay.passed += times);
        }
    }
}

#[test]
fn a_signal_of_an_earlier_run_begins_its_handler_in_the_next_one_also_in_a_replay() {
    let EventKind::WorkflowStarted(first) = started::<Relay>(&0).kind else { panic!("no start") };
    let continued = partitura::Continued {
        signals: [("pass".to_owned(), vec![Payload::null()])].into(),
        ..partitura::Continued::default()
    };
    let event =
        Event::new(1, EventKind::WorkflowStarted(Box::new(Started { continued: Some(Box::new(continued)), ..*first })));
    let (mut execution, turn) = Execution::start(&Definition::for_workflow::<Relay>(), event.clone()).unwrap();
    let mut history = vec![event];
    history.extend(turn.events);
    let fired = Event::new(2, EventKind::TimerFired { seq: 2 });
    history.push(fired.clone());
    history.extend(execution.apply(fired).unwrap().events);
    assert_eq!(execution.outcome(), Some(&EventKind::WorkflowCompleted { result: payload(&3) }));
    let (replayed, turn) = replay::<Relay>(&history).unwrap();
    assert_eq!((replayed.outcome(), turn.events), (execution.outcome(), Vec::new()));
}
