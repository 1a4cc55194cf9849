//! Events against commands: is the code still the code that wrote this history?

use crate::{Event, EventKind, StopReason};

/// Compares a command or an end in the history with what the code issued in its place.
pub(super) fn check(event_index: usize, history: &Event, code: Option<EventKind>) -> Result<(), StopReason> {
    match code {
        Some(code) if is_same(&history.kind, &code) => Ok(()),
        code => Err(difference(event_index, history, code)),
    }
}

/// The kind and what identifies it. Arguments, options, due times and results may differ: the history's count.
fn is_same(history: &EventKind, code: &EventKind) -> bool {
    use EventKind as E;
    if history.seq() != code.seq() {
        return false;
    }
    match (history, code) {
        (E::TaskScheduled { service: s1, method: m1, .. }, E::TaskScheduled { service: s2, method: m2, .. }) => {
            s1 == s2 && m1 == m2
        }
        (E::ChildStarted { workflow: w1, id: i1, .. }, E::ChildStarted { workflow: w2, id: i2, .. }) => {
            w1 == w2 && i1 == i2
        }
        (E::StepScheduled { name: n1, .. }, E::StepScheduled { name: n2, .. }) => n1 == n2,
        (
            E::SignalSent { workflow: w1, id: i1, name: n1, .. },
            E::SignalSent { workflow: w2, id: i2, name: n2, .. },
        ) => w1 == w2 && i1 == i2 && n1 == n2,
        (E::VersionMarked { change: c1, version: v1, .. }, E::VersionMarked { change: c2, version: v2, .. }) => {
            c1 == c2 && v1 == v2
        }
        (history, code) => std::mem::discriminant(history) == std::mem::discriminant(code),
    }
}

fn difference(event_index: usize, history: &Event, code: Option<EventKind>) -> StopReason {
    let seqs = (history.kind.seq(), code.as_ref().and_then(EventKind::seq));
    let mut said = history.to_string();
    let mut did = match code {
        Some(code) => Event::new(history.at, code).to_string(),
        None => "nothing, it waits".to_owned(),
    };
    if let ((Some(history), Some(code)), true) = (seqs, said == did) {
        said.push_str(&format!(" (#{history})"));
        did.push_str(&format!(" (#{code})"));
    }
    StopReason::NonDeterministic { event_index, history: said, code: did }
}
