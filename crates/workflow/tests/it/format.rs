//! The format of histories, which must stay readable for ever: `tests/golden` holds one of each event.

use std::collections::BTreeSet;

use partitura::{Event, EventKind, HISTORY_FORMAT, Retry, TaskOptions, days, seconds};

const GOLDEN: &str = include_str!("../golden/history-1.json");

#[test]
fn a_released_history_is_read_and_written_back_unchanged() {
    let lines: Vec<&str> = GOLDEN.lines().collect();
    for line in &lines {
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), *line);
    }
    assert_eq!(HISTORY_FORMAT, 1);
}

/// The names of all kinds, as serde knows them.
fn all_kinds() -> BTreeSet<String> {
    let error = serde_json::from_str::<EventKind>(r#""none of them""#).unwrap_err().to_string();
    let (_, known) = error.split_once("expected one of ").unwrap();
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_golden_history_holds_every_kind_of_event() {
    let kinds: BTreeSet<String> = GOLDEN
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["event"].as_object().unwrap().keys().next().unwrap().clone()
        })
        .collect();
    assert_eq!(kinds, all_kinds());
}

#[test]
fn events_say_what_they_are_in_one_line() {
    let lines: Vec<String> =
        GOLDEN.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().to_string()).collect();
    assert!(lines.contains(&"TaskScheduled Payments.charge".to_owned()));
    assert!(lines.contains(&"TimerStarted 3d1h30ms".to_owned()));
}

#[test]
fn inputs_commands_and_ends_are_told_apart() {
    for line in GOLDEN.lines() {
        let kind = serde_json::from_str::<Event>(line).unwrap().kind;
        assert_eq!(1, [kind.is_input(), kind.is_command(), kind.is_end()].iter().filter(|&&is| is).count());
        // The answers to updates are numbered by their senders.
        let is_numbered = kind.seq().is_some() || kind.to_string().starts_with("Update");
        assert!(!kind.is_command() || is_numbered);
    }
}

#[test]
fn options_that_tasks_no_longer_have_are_passed_over() {
    let options: TaskOptions = serde_json::from_str(r#"{"timeout_ms":1000,"priority":5}"#).unwrap();
    assert_eq!(options, TaskOptions { timeout: Some(seconds(1)), ..TaskOptions::default() });
}

#[test]
fn a_retry_policy_is_written_in_milliseconds() {
    let retry = Retry::exponential().initial(seconds(2)).max_interval(days(1)).max_attempts(5).jitter(0.0);
    assert_eq!(
        serde_json::to_string(&retry).unwrap(),
        r#"{"initial_ms":2000,"coefficient":2.0,"max_interval_ms":86400000,"max_attempts":5,"jitter":0.0}"#
    );
}
