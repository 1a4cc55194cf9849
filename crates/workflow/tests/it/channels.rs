use partitura::{Cx, Event, EventKind, Never, Payload, QueryError, ReceiveError, Signal, StopReason, days, join};
use partitura_macros::{select, workflow};

use crate::harness::{Live, START, payload, reason, replay};

#[derive(Default)]
struct Approvals {
    open: bool,
    notes: Vec<String>,
}

#[workflow]
impl Approvals {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<Vec<u32>, ReceiveError> {
        cx.until(|state| state.open).await?;
        let numbers = cx.channel::<u32>("numbers");
        let mut received = vec![numbers.recv().await?, numbers.recv_where(|n| *n > 10).await?];
        received.push(numbers.recv().await?);
        Ok(received)
    }

    #[signal]
    fn open(&mut self) {
        self.open = true;
    }

    #[signal]
    fn note(&mut self, text: String, author: Option<String>) {
        self.notes.push(format!("{text} by {}", author.as_deref().unwrap_or("nobody")));
    }

    #[query]
    fn notes(&self, least: usize) -> Vec<String> {
        assert!(least < 100, "that many there never are");
        self.notes.iter().filter(|note| note.len() >= least).cloned().collect()
    }
}

#[test]
fn early_signals_are_kept_until_somebody_receives_them() {
    let mut live = Live::<Approvals>::start(());
    live.signal("numbers", 1).signal("numbers", 2).signal("numbers", 30);
    assert!(!live.execution.is_closed());
    live.signal("open", ());
    assert_eq!(live.result(), [1, 30, 2], "filtered ones stay in order for the others");
}

#[test]
fn a_signal_with_the_same_message_id_counts_once() {
    let mut live = Live::<Approvals>::start(());
    live.signal("open", ()).signal("numbers", 1);
    assert!(live.execution.has_seen_message("message-2") && !live.execution.has_seen_message("message-3"));
    live.ignored(EventKind::SignalReceived {
        name: "numbers".to_owned(),
        payload: payload(&50),
        message_id: "message-2".to_owned(),
    });
}

#[test]
fn a_signal_that_is_not_of_the_channels_type_is_reported_to_the_receiver() {
    let mut live = Live::<Approvals>::start(());
    live.signal("open", ()).signal("numbers", "one");
    assert!(live.failure().message.starts_with("signal on channel numbers: u32 could not be decoded"));
}

#[test]
fn a_signal_that_its_handler_cannot_read_is_refused_and_harms_nothing() {
    let mut live = Live::<Approvals>::start(());
    let bad = EventKind::SignalReceived {
        name: "note".to_owned(),
        payload: Payload::from_json(r#"{"text":5}"#).unwrap(),
        message_id: "bad".to_owned(),
    };
    let stop = live.try_apply(bad).unwrap_err();
    assert_eq!(
        stop.to_string(),
        "workflow Approvals/order-42 stopped: signal note: argument `text`: alloc::string::String could not be decoded: invalid type: \
         integer `5`, expected a string at line 1 column 1"
    );
    live.signal("open", ()).signal("numbers", 1).signal("numbers", 20).signal("numbers", 3);
    assert_eq!(live.result(), [1, 20, 3]);
}

#[test]
fn a_signal_that_came_while_the_instance_was_stopped_and_cannot_be_read_is_refused_once_and_passed_over_ever_after() {
    let mut live = Live::<Approvals>::start(());
    let mut history = std::mem::take(&mut live.history);
    let signal = |name: &str, json: &str, id: &str| EventKind::SignalReceived {
        name: name.to_owned(),
        payload: Payload::from_json(json).unwrap(),
        message_id: id.to_owned(),
    };
    let kept = [
        EventKind::WorkflowStopped { reason: "a flaw".to_owned() },
        signal("note", r#"{"text":5}"#, "bad"),
        signal("open", "null", "good"),
        signal("note", r#"{"text":5}"#, "bad"),
    ];
    history.extend(kept.map(|kind| Event::new(START + 1_000, kind)));
    let (mut resumed, turn) = replay::<Approvals>(&history).unwrap();
    let Some(EventKind::WorkflowResumed { refused }) = turn.events.first().map(|event| &event.kind) else {
        panic!("{:?}", turn.events)
    };
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["bad"]);
    assert!(refused["bad"].contains("argument `text`"), "{refused:?}");
    // A copy of it that comes later is ignored, by this instance and by its replays.
    let copy = Event::new(START + 2_000, signal("note", r#"{"text":"late"}"#, "bad"));
    assert!(resumed.apply(copy.clone()).unwrap().ignored);
    history.extend(turn.events);
    let (mut again, turn) = replay::<Approvals>(&history).unwrap();
    assert_eq!(turn.events, []);
    assert!(again.apply(copy).unwrap().ignored);
}

#[test]
fn a_signal_that_was_read_before_must_be_readable_when_its_history_is_replayed() {
    let live = Live::<Approvals>::start(());
    let mut history = live.history.clone();
    let (name, payload) = ("note".to_owned(), Payload::from_json(r#"{"text":5}"#).unwrap());
    history.push(Event::new(START, EventKind::SignalReceived { name, payload, message_id: "read".to_owned() }));
    history.push(Event::new(START, EventKind::WorkflowStopped { reason: "a flaw".to_owned() }));
    let stop = replay::<Approvals>(&history).unwrap_err();
    assert!(stop.to_string().contains("argument `text`"), "{stop}");
}

#[test]
fn signal_and_query_arguments_travel_by_name_and_a_missing_option_is_none() {
    let mut live = Live::<Approvals>::start(());
    let (name, sent) = ApprovalsSignal::note("hot".to_owned(), Some("Eve".to_owned())).into_parts().unwrap();
    assert_eq!(sent.as_json(), r#"{"text":"hot","author":"Eve"}"#);
    live.apply(EventKind::SignalReceived { name, payload: sent, message_id: "a".to_owned() });
    let payload = Payload::from_json(r#"{"text":"cold"}"#).unwrap();
    live.apply(EventKind::SignalReceived { name: "note".to_owned(), payload, message_id: "b".to_owned() });
    let (name, args) = ApprovalsQuery::notes(0).into_parts().unwrap();
    let notes: Vec<String> = live.execution.query(&name, &args).unwrap().decode().unwrap();
    assert_eq!(notes, ["hot by Eve", "cold by nobody"]);
}

#[test]
fn queries_fail_without_harm() {
    let mut live = Live::<Approvals>::start(());
    let ask = |live: &Live<Approvals>, name: &str, json: &str| {
        live.execution.query(name, &Payload::from_json(json).unwrap()).unwrap_err()
    };
    assert_eq!(ask(&live, "colour", "{}").to_string(), r#"workflow Approvals has no query `colour`; it has ["notes"]"#);
    assert_eq!(ask(&live, "notes", "{}").to_string(), "argument `least` (usize) could not be decoded: it is missing");
    assert!(matches!(ask(&live, "notes", r#"{"least":100}"#), QueryError::Panicked(text) if text.contains("never")));
    live.signal("open", ());
}

#[derive(Default)]
struct Many;

#[workflow]
impl Many {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(u32, u32, u32), ReceiveError> {
        let numbers = cx.channel::<u32>("numbers");
        let (first, big, second) = join!(numbers.recv(), numbers.recv_where(|n| *n >= 10), numbers.recv());
        Ok((first?, big?, second?))
    }
}

#[test]
fn many_receivers_are_served_first_come_first_served() {
    let mut live = Live::<Many>::start(());
    live.signal("numbers", 50).signal("numbers", 60).signal("numbers", 70);
    assert_eq!(live.result(), (50, 60, 70));

    let mut live = Live::<Many>::start(());
    live.signal("numbers", 1).signal("numbers", 2).signal("numbers", 70);
    assert_eq!(live.result(), (1, 70, 2));
}

#[derive(Default)]
struct Dropped;

#[workflow]
impl Dropped {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(u32, u32), ReceiveError> {
        let numbers = cx.channel::<u32>("numbers");
        let mut go = cx.channel::<()>("go").recv();
        // Both wait for the same signal; the upper branch wins at `go`, the lower is dropped.
        select! {
            _ = &mut go => {},
            number = numbers.recv() => return Ok((number?, 0)),
        }
        Ok((numbers.recv().await?, numbers.recv().await?))
    }
}

#[test]
fn a_dropped_receiver_loses_no_signal() {
    let mut live = Live::<Dropped>::start(());
    live.signal("go", ()).signal("numbers", 1).signal("numbers", 2);
    assert_eq!(live.result(), (1, 2));
}

#[derive(Default)]
struct Sender;

#[workflow]
impl Sender {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Never> {
        cx.signal("a-1", ApprovalsSignal::open()).unwrap();
        cx.signal("a-1", Signal::<Approvals>::to_channel("numbers", &3)).unwrap();
        cx.child::<Many>("detached").detach(()).unwrap();
        let _ = cx.sleep(days(1)).await;
        Ok(())
    }
}

#[test]
fn signals_to_others_and_detached_children_go_out_at_once() {
    let mut live = Live::<Sender>::start(());
    assert_eq!(
        live.commands(),
        [
            "SignalSent open to Approvals/a-1",
            "SignalSent numbers to Approvals/a-1",
            "ChildStarted Many/detached",
            "TimerStarted 1d"
        ]
    );
    live.cancel();
    assert_eq!(live.commands()[4..], ["TimerCancelled #4"], "a detached child is not cancelled");
}

#[test]
fn what_is_not_an_input_is_refused() {
    let mut live = Live::<Many>::start(());
    let refused = reason(live.try_apply(EventKind::TimerStarted { seq: 1, due_at_ms: 3, after_ms: None }));
    assert!(matches!(refused, StopReason::BadInput { .. }));
    live.signal("numbers", 1);
}
