//! Runs that follow each other under one id.

use partitura::{
    Cancelled, Continued, Cx, Definition, Event, EventKind, Execution, Never, ReceiveError, Started, Workflow, hours,
};
use partitura_macros::{select, workflow};

use crate::harness::{Live, payload, started};

/// Counts what arrives on a channel, two signals in each run.
#[derive(Debug, Default)]
struct Tally;

#[workflow]
impl Tally {
    #[run]
    async fn run(cx: Cx<Self>, count: u32) -> Result<u32, ReceiveError> {
        let mut count = count;
        let channel = cx.channel::<u32>("add");
        for _ in 0..2 {
            count += channel.recv().await?;
        }
        if count >= 100 {
            return Ok(count);
        }
        cx.continue_as_new(count).await
    }
}

/// Begins the next run of what has continued.
fn next<W: Workflow>(live: &mut Live<W>) -> (Execution, partitura::Turn, Event) {
    let Some(EventKind::WorkflowContinued { input, .. }) = live.execution.outcome().cloned() else {
        panic!("it has not continued: {:?}", live.execution.outcome());
    };
    let continued = live.execution.take_continuation();
    assert!(live.execution.take_continuation().is_none());
    let EventKind::WorkflowStarted(first) = started::<W>(&input.decode().unwrap()).kind else { panic!("no start") };
    let run = "018f0000-0000-7000-8000-000000000001".to_owned();
    let event = Event::new(
        live.history.last().unwrap().at,
        EventKind::WorkflowStarted(Box::new(Started { run, continued, ..*first })),
    );
    let (execution, turn) = Execution::start(&Definition::for_workflow::<W>(), event.clone()).unwrap();
    (execution, turn, event)
}

fn continued(event: &Event) -> &Continued {
    match &event.kind {
        EventKind::WorkflowStarted(started) => started.continued.as_deref().unwrap(),
        other => panic!("{other} is no start"),
    }
}

#[test]
fn the_next_run_has_its_input_and_what_no_code_has_received() {
    let mut live = Live::<Tally>::start(1);
    // Three in one turn: the second run gets the third, also with its other name.
    live.signal("other", 9);
    live.signal("add", 2);
    live.signal("add", 3);
    assert_eq!(live.lines().last().map(String::as_str), Some("WorkflowContinued"));
    let (mut execution, turn, event) = next(&mut live);
    assert_eq!(turn.events, []);
    let taken = continued(&event);
    assert_eq!(
        (taken.from.as_str(), taken.first.as_str()),
        ("018f0000-0000-7000-8000-000000000000", taken.from.as_str())
    );
    assert_eq!(taken.signals, [("other".to_owned(), vec![payload(&9)])].into());
    assert_eq!(taken.seen, ["message-1", "message-2", "message-3"]);
    let signal = |id: &str, value: u32| {
        let (name, message_id) = ("add".to_owned(), id.to_owned());
        Event::new(event.at, EventKind::SignalReceived { name, payload: payload(&value), message_id })
    };
    assert!(execution.apply(signal("message-3", 3)).unwrap().ignored, "a copy of what the first run had");
    execution.apply(signal("message-4", 90)).unwrap();
    let end = execution.apply(signal("message-5", 4)).unwrap().events;
    assert_eq!(
        end.last().map(|event| event.kind.clone()),
        Some(EventKind::WorkflowCompleted { result: payload(&100) })
    );
}

/// Gets a signal in the turn in which it continues.
#[derive(Debug, Default)]
struct Leaves;

#[workflow]
impl Leaves {
    #[run]
    async fn run(cx: Cx<Self>, round: u32) -> Result<(), ReceiveError> {
        if round > 0 {
            let value: u32 = cx.channel("late").recv().await?;
            assert_eq!(value, 7);
            return Ok(());
        }
        let late = cx.channel::<u32>("late");
        let waits = late.recv();
        let _task = cx.sleep(hours(1)).start();
        let () = cx.channel("go").recv().await?;
        drop(waits);
        cx.continue_as_new(1).await
    }
}

#[test]
fn a_run_that_continues_leaves_what_is_open_behind() {
    let mut live = Live::<Leaves>::start(0);
    live.signal("late", 7);
    live.signal("go", ());
    assert_eq!(live.lines().last().map(String::as_str), Some("WorkflowContinued"));
    let (execution, _, event) = next(&mut live);
    assert_eq!(continued(&event).signals.keys().collect::<Vec<_>>(), ["late"]);
    assert!(matches!(execution.outcome(), Some(EventKind::WorkflowCompleted { .. })));
}

/// Continues although it was cancelled.
#[derive(Debug, Default)]
struct Stubborn;

#[workflow]
impl Stubborn {
    #[run]
    async fn run(cx: Cx<Self>, round: u32) -> Result<u32, Never> {
        match cx.sleep(hours(1)).await {
            Err(Cancelled) if round == 1 => Ok(round),
            _ => cx.continue_as_new(round + 1).await,
        }
    }
}

#[test]
fn a_requested_cancellation_goes_along() {
    let mut live = Live::<Stubborn>::start(0);
    live.cancel();
    let (execution, turn, event) = next(&mut live);
    assert_eq!(continued(&event).cancel.as_ref().unwrap().reason.as_deref(), Some("changed my mind"));
    assert!(execution.is_cancel_requested());
    // The timer of the next run is never started.
    assert_eq!(turn.events.len(), 1);
    assert_eq!(turn.events[0].kind, EventKind::WorkflowCompleted { result: payload(&1) });
}

/// Says how long its history is.
#[derive(Debug, Default)]
struct Long;

#[workflow]
impl Long {
    #[run]
    async fn run(cx: Cx<Self>, until: u64) -> Result<u64, ReceiveError> {
        while (cx.history_len() as u64) < until {
            select! {
                waited = cx.sleep(hours(1)) => waited?,
                tick = cx.channel::<()>("tick").recv() => tick?,
            }
        }
        Ok(cx.history_len() as u64)
    }
}

#[test]
fn the_length_of_a_history_is_the_same_in_every_life() {
    let mut live = Live::<Long>::start(5);
    live.fire(1).signal("tick", ());
    assert_eq!(live.lines()[..4], ["TimerStarted 1h", "TimerFired #1", "TimerStarted 1h", "SignalReceived tick"]);
    assert_eq!(live.result(), 5, "the start and these");
}

/// Goes on as new after each update.
#[derive(Debug, Default)]
struct Turns {
    next: Option<u32>,
}

#[workflow]
impl Turns {
    #[run]
    async fn run(cx: Cx<Self>, _turn: u32) -> Result<(), Cancelled> {
        cx.until(|turns: &Turns| turns.next.is_some()).await?;
        let next = cx.state(|turns| turns.next.take());
        cx.continue_as_new(next.unwrap_or_default()).await
    }

    #[update]
    fn turn(&mut self, to: u32) -> u32 {
        *self.next.insert(to)
    }
}

#[test]
fn the_next_run_knows_which_run_has_had_an_update() {
    let mut live = Live::<Turns>::start(0);
    live.update(TurnsUpdate::turn(7), "u-1");
    let run = live.execution.started().run.clone();
    let (execution, _, event) = next(&mut live);
    assert_eq!(continued(&event).updates, [partitura::EarlierUpdate { id: "u-1".into(), run: run.clone() }]);
    assert_eq!(execution.had_update("u-1"), Some(&*run));
}

#[test]
fn signals_that_were_kept_behind_the_end_of_a_run_go_along_when_its_code_goes_on() {
    let first = started::<Tally>(&1);
    let mut at = first.at;
    let mut event = |kind| {
        at += 1;
        Event::new(at, kind)
    };
    let signal = |id: &str, value: u32| EventKind::SignalReceived {
        name: "add".to_owned(),
        payload: payload(&value),
        message_id: id.to_owned(),
    };
    let mut history = vec![first, event(EventKind::WorkflowPaused { reason: "moving".to_owned() })];
    for (id, value) in [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("c", 3), ("a", 1)] {
        history.push(event(signal(id, value)));
    }
    history.push(event(EventKind::CancelRequested { reason: Some("it is late".to_owned()) }));
    let definition = Definition::for_workflow::<Tally>();
    let (mut execution, turn) = Execution::replay(&definition, history.clone()).unwrap();
    let lines: Vec<String> = turn.events.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["WorkflowResumed", "WorkflowContinued"]);
    let taken = execution.take_continuation().unwrap();
    assert_eq!(taken.signals, [("add".to_owned(), vec![payload(&3), payload(&4)])].into());
    assert_eq!(taken.seen, ["a", "b", "c", "d"]);
    assert_eq!(taken.cancel.unwrap().reason.as_deref(), Some("it is late"));
    history.extend(turn.events);
    let (mut execution, turn) = Execution::replay(&definition, history).unwrap();
    assert_eq!(turn.events, []);
    assert!(execution.take_continuation().is_none(), "the next run has begun");
}
