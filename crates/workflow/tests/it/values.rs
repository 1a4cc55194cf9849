//! Replay compares what the code asks for by value, too.

use std::cell::Cell;
use std::collections::HashMap;

use partitura::{Cx, Definition, Difference, Event, EventKind, Execution, Never, Signal, StopReason, days, seconds};
use partitura_macros::workflow;

use crate::calls::PaymentsStub;
use crate::harness::{Live, START, payload, reason, replay, started};

thread_local! {
    /// A value that the code takes from outside, against the rules.
    static OUTSIDE: Cell<u64> = const { Cell::new(0) };
}

fn outside(value: u64) {
    OUTSIDE.set(value);
}

/// Asks for one thing of each kind, with a value from outside where `which` says.
#[derive(Default)]
struct Leaky;

#[workflow]
impl Leaky {
    #[run]
    async fn run(cx: Cx<Self>, which: u32) -> Result<(), Never> {
        let value = |of: u32| if of == which { OUTSIDE.get() } else { 0 };
        let task = cx.service::<PaymentsStub>().rate(value(0).to_string()).start();
        let child = cx.child::<Inner>("inner").start(value(1));
        let timer = cx.sleep(days(1) + seconds(value(2))).start();
        let at = partitura_jiff(START + 1_000 * (10 + value(3)));
        let moment = cx.sleep_until(at).start();
        cx.signal("other", Signal::<Inner>::to_channel("numbers", &value(4))).unwrap();
        let _ = cx.until(|_| false).await;
        drop((task, child, timer, moment));
        Ok(())
    }
}

fn partitura_jiff(millis: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(i64::try_from(millis).unwrap()).unwrap()
}

#[derive(Default)]
struct Inner;

#[workflow]
impl Inner {
    #[run]
    async fn run(_cx: Cx<Self>, input: u64) -> Result<u64, Never> {
        Ok(input)
    }
}

fn recorded(which: u32) -> Vec<Event> {
    outside(0);
    Live::<Leaky>::start(which).history
}

fn compare(history: &[Event]) -> Vec<Difference> {
    let compared = Execution::replay_and_compare(&Definition::for_workflow::<Leaky>(), history.iter().cloned());
    let (_, turn, differences) = compared.unwrap();
    assert_eq!(turn.events, []);
    differences
}

#[test]
fn other_values_than_recorded_are_a_stop_or_are_returned_with_both_sides() {
    let expected = [
        (1, r#"TaskScheduled Payments.rate {"currency":"0"}"#, r#"TaskScheduled Payments.rate {"currency":"7"}"#),
        (2, "ChildStarted Inner/inner 0", "ChildStarted Inner/inner 7"),
        (3, "TimerStarted 1d", "TimerStarted 1d7s"),
        (4, "TimerStarted 10s (until 1700000010000 ms)", "TimerStarted 17s (until 1700000017000 ms)"),
        (5, "SignalSent numbers to Inner/other 0", "SignalSent numbers to Inner/other 7"),
    ];
    for (which, (event_index, history, code)) in (0..).zip(expected) {
        let events = recorded(which);
        assert_eq!(compare(&events), []);
        outside(7);
        let (history, code) = (history.to_owned(), code.to_owned());
        let difference = Difference { event_index, history: history.clone(), code: code.clone() };
        assert_eq!(compare(&events), [difference]);
        assert_eq!(reason(replay::<Leaky>(&events)), StopReason::NonDeterministic { event_index, history, code });
    }
}

#[test]
fn a_replay_that_only_compares_goes_on_with_what_is_recorded() {
    let events = recorded(0);
    outside(7);
    let (mut execution, _, _) =
        Execution::replay_and_compare(&Definition::for_workflow::<Leaky>(), events.iter().cloned()).unwrap();
    let turn = execution.apply(Event::new(START, EventKind::TaskCompleted { seq: 1, result: payload(&1) })).unwrap();
    assert!(!turn.ignored);
}

/// Charges in the order of a map, which is another in every process.
#[derive(Default)]
struct Unordered;

#[workflow]
impl Unordered {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Never> {
        let orders: HashMap<u32, u32> = (0..50).map(|n| (n, n)).collect();
        for order in orders.keys() {
            let _ = cx.service::<PaymentsStub>().rate(order.to_string()).await;
        }
        Ok(())
    }
}

#[test]
fn a_loop_over_a_hash_map_is_found_at_the_first_replay() {
    let first = started::<Unordered>(&());
    let (mut execution, turn) = Execution::start(&Definition::for_workflow::<Unordered>(), first.clone()).unwrap();
    let mut history = vec![first];
    history.extend(turn.events);
    for seq in 1..50 {
        let input = Event::new(START, EventKind::TaskCompleted { seq, result: payload(&1) });
        history.push(input.clone());
        history.extend(execution.apply(input).unwrap().events);
    }
    assert!(matches!(reason(replay::<Unordered>(&history)), StopReason::NonDeterministic { .. }));
}

/// One value, in the encodings that a map and an optional argument may have.
#[derive(Default)]
struct Sends;

#[workflow]
impl Sends {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Never> {
        let map: HashMap<u32, f64> = (0..20).map(|n| (n, f64::from(n) / 3.0)).collect();
        cx.signal("other", Signal::<Inner>::to_channel("maps", &(map, None::<u32>))).unwrap();
        Ok(())
    }
}

#[test]
fn another_encoding_of_the_same_value_is_no_difference() {
    let live = Live::<Sends>::start(());
    for _ in 0..5 {
        replay::<Sends>(&live.history).unwrap();
    }
    let mut history = vec![started::<Leaky>(&9)];
    history.extend(recorded(9).into_iter().skip(1));
    if let EventKind::TaskScheduled { args, .. } = &mut history[1].kind {
        *args = partitura::Payload::from_json(r#"{ "currency": "0", "region": null }"#).unwrap();
    }
    assert_eq!(compare(&history), []);
}
