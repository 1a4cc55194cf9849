//! The values of commands: are they those that the history has?

use serde_json::Value;

use super::Difference;
use crate::{Event, EventKind, Payload};

/// How much of a value a difference shows, in characters.
const SHOWN: usize = 200;

/// Options of tasks and results of workflows may differ: they belong to the code, and those of the history count.
pub(super) fn are_same(history: &EventKind, code: &EventKind) -> bool {
    use EventKind as E;
    match (history, code) {
        (E::TaskScheduled { args: a, .. }, E::TaskScheduled { args: b, .. })
        | (E::ChildStarted { input: a, .. }, E::ChildStarted { input: b, .. })
        | (E::SignalSent { payload: a, .. }, E::SignalSent { payload: b, .. })
        | (E::UpdateCompleted { result: a, .. }, E::UpdateCompleted { result: b, .. })
        | (E::WorkflowContinued { input: a, .. }, E::WorkflowContinued { input: b, .. }) => is_same_payload(a, b),
        (E::UpdateFailed { failure: a, .. }, E::UpdateFailed { failure: b, .. }) => match (&a.details, &b.details) {
            (Some(a), Some(b)) => is_same_payload(a, b),
            (a, b) => a.is_none() && b.is_none(),
        },
        (E::UpdateCompleted { .. }, E::UpdateFailed { .. }) | (E::UpdateFailed { .. }, E::UpdateCompleted { .. }) => {
            false
        }
        (
            E::TimerStarted { due_at_ms: due_a, after_ms: a, .. },
            E::TimerStarted { due_at_ms: due_b, after_ms: b, .. },
        ) => match (a, b) {
            (Some(a), Some(b)) => a == b,
            _ => due_a == due_b,
        },
        (E::AttributeSet { value: a, .. }, E::AttributeSet { value: b, .. }) => a == b,
        _ => true,
    }
}

pub(super) fn difference(event_index: usize, history: &Event, code: EventKind) -> Difference {
    let code = Event::new(history.at, code);
    Difference { event_index, history: shown(history), code: shown(&code) }
}

/// Two encodings of one value may differ as texts: a map has no order, and an optional field that is missing is `null`.
fn is_same_payload(a: &Payload, b: &Payload) -> bool {
    a == b || matches!((a.decode(), b.decode()), (Ok(a), Ok(b)) if is_same_value(&a, &b))
}

fn is_same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let field = |(name, value): (&String, &Value), other: &serde_json::Map<String, Value>| {
                is_same_value(value, other.get(name).unwrap_or(&Value::Null))
            };
            a.iter().all(|entry| field(entry, b)) && b.iter().all(|entry| field(entry, a))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_value(a, b)),
        (a, b) => a == b,
    }
}

fn shown(event: &Event) -> String {
    use EventKind as E;
    match &event.kind {
        E::TaskScheduled { args: value, .. }
        | E::ChildStarted { input: value, .. }
        | E::UpdateCompleted { result: value, .. }
        | E::SignalSent { payload: value, .. } => {
            let mut text: String = value.as_json().chars().take(SHOWN).collect();
            if text.len() < value.as_json().len() {
                text.push('…');
            }
            format!("{event} {text}")
        }
        E::TimerStarted { due_at_ms, after_ms: None, .. } => format!("{event} (until {due_at_ms} ms)"),
        _ => event.to_string(),
    }
}
