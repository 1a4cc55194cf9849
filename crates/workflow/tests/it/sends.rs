//! Messages that are too large for the broker are refused to the code that sends them, in each replay alike.

use std::sync::Arc;

use partitura::{Cx, Definition, Event, EventKind, Execution, FitCheck, Never, Signal, TooLarge, Turn, days};
use partitura_macros::workflow;

use crate::harness::{replay, started};

#[derive(Default)]
struct Speaker;

#[workflow]
impl Speaker {
    /// Sends texts of these sizes, to a channel and as the input of a child, and says what was refused.
    #[run]
    async fn run(cx: Cx<Self>, sizes: Vec<usize>) -> Result<Vec<Option<String>>, Never> {
        let mut refused = Vec::new();
        for size in &sizes {
            let text = "x".repeat(*size);
            let signal = cx.signal("other", Signal::<Self>::to_channel("loud", &text));
            refused.push(signal.err().map(|error| error.to_string()));
            let child = cx.child::<Self>(format!("child-{size}")).detach(vec![*size; *size]);
            refused.push(child.err().map(|error| error.to_string()));
        }
        let _ = cx.sleep(days(1)).await;
        refused
            .push(cx.signal("other", Signal::<Self>::to_channel("loud", &sizes)).err().map(|error| error.to_string()));
        Ok(refused)
    }
}

/// Lets pass what has no more bytes than this.
fn at_most(limit: usize) -> FitCheck {
    Arc::new(move |command| {
        let bytes = match command {
            EventKind::SignalSent { payload, .. } | EventKind::ChildStarted { input: payload, .. } => {
                payload.as_json().len()
            }
            other => panic!("{other} is not sent"),
        };
        if bytes <= limit { Ok(()) } else { Err(TooLarge { bytes, limit }) }
    })
}

fn definition(limit: usize) -> Definition {
    Definition::for_workflow::<Speaker>().with_fit_check(at_most(limit))
}

/// The history of an instance on a broker with this limit, whose timer has not fired.
fn history(limit: usize) -> Vec<Event> {
    let first = started::<Speaker>(&vec![10, 60, 20]);
    let (_, turn) = Execution::start(&definition(limit), first.clone()).unwrap();
    std::iter::once(first).chain(turn.events).collect()
}

#[test]
fn what_is_too_large_is_refused_and_recorded_with_its_size() {
    let lines: Vec<String> = history(50).iter().skip(1).map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "SignalSent loud to Speaker/other",
            "ChildStarted Speaker/child-10",
            "SendRefused to Speaker/other: 62 bytes",
            "SendRefused to Speaker/child-60: 181 bytes",
            "SignalSent loud to Speaker/other",
            "SendRefused to Speaker/child-20: 61 bytes",
            "TimerStarted 1d"
        ]
    );
}

#[test]
fn each_replay_refuses_the_same_whatever_the_broker_takes_by_then() {
    let history = history(50);
    let fire = |execution: &mut Execution| execution.apply(Event::new(history[0].at + 86_400_000, fired(7))).unwrap();
    for limit in [0, 50, 1_000] {
        let (mut execution, turn) = Execution::replay(&definition(limit), history.iter().cloned()).unwrap();
        assert_eq!(turn.events, []);
        let refused = refused(&fire(&mut execution));
        let [None, None, Some(signal), Some(child), None, Some(_), last] = &refused[..] else { panic!("{refused:?}") };
        assert_eq!(
            *signal,
            "signal loud to Speaker/other could not be sent: a payload of 62 bytes, 50 are allowed; keep large data elsewhere and \
             send a reference"
        );
        assert!(
            child.starts_with("the input of Speaker/child-60 could not be sent: a payload of 181 bytes"),
            "{child}"
        );
        // Beyond the end of the history it is the broker of now that counts.
        assert_eq!(last.is_some(), limit == 0);
    }
    // One that does not know what the broker takes.
    replay::<Speaker>(&history).unwrap();
}

fn fired(seq: u32) -> EventKind {
    EventKind::TimerFired { seq }
}

fn refused(turn: &Turn) -> Vec<Option<String>> {
    match turn.events.last().map(|event| &event.kind) {
        Some(EventKind::WorkflowCompleted { result }) => result.decode().unwrap(),
        other => panic!("{other:?}"),
    }
}
