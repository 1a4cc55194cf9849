//! Events against commands: is the code still the code that wrote this history?

use std::collections::{BTreeMap, HashSet};

use super::{Difference, values};
use crate::{Event, EventKind, StopReason};

/// The signals that came while the code could not go on. They were recorded unread: code that runs again refuses those
/// that it cannot read, once, and every later replay refuses the same.
#[derive(Default)]
pub(super) struct Kept {
    /// From where on the history waits for its code to go on.
    stopped_at: Option<usize>,
    /// The time of the last event.
    until: u64,
    refused_before: HashSet<String>,
    refused_now: BTreeMap<String, String>,
}

impl Kept {
    /// `events` are those behind the first of the history.
    pub(super) fn new(events: &[Event]) -> Self {
        let mut kept = Self::default();
        for (index, event) in (1..).zip(events) {
            kept.until = event.at;
            match &event.kind {
                EventKind::WorkflowStopped { .. } | EventKind::WorkflowPaused { .. } => {
                    kept.stopped_at = kept.stopped_at.or(Some(index));
                }
                EventKind::WorkflowResumed { refused } => {
                    kept.stopped_at = None;
                    kept.refused_before.extend(refused.keys().cloned());
                }
                end if end.is_end() => kept.stopped_at = None,
                _ => {}
            }
        }
        kept
    }

    /// The message id of the event at `index`, if it is a signal that was refused or may be refused now.
    pub(super) fn id_of_signal(&self, index: usize, event: &EventKind) -> Option<String> {
        let EventKind::SignalReceived { message_id, .. } = event else { return None };
        (self.is_unread(index) || self.is_refused(message_id)).then(|| message_id.clone())
    }

    /// Whether the event at `index` came while the code could not go on, and is read only now.
    pub(super) fn is_unread(&self, index: usize) -> bool {
        self.stopped_at.is_some_and(|stopped_at| index > stopped_at)
    }

    pub(super) fn is_refused(&self, message_id: &str) -> bool {
        self.refused_before.contains(message_id)
    }

    pub(super) fn refuse(&mut self, message_id: String, problem: String) {
        self.refused_now.insert(message_id, problem);
    }

    /// Gives the event for the history when the code goes on. `None`: it was not stopped.
    pub(super) fn resumed(self) -> Option<Event> {
        self.stopped_at.map(|_| Event::new(self.until, EventKind::WorkflowResumed { refused: self.refused_now }))
    }
}

/// Compares a command or an end in the history with what the code issued in its place. `Some`: they differ in their
/// values only.
pub(super) fn check(
    event_index: usize,
    history: &Event,
    code: Option<EventKind>,
) -> Result<Option<Difference>, StopReason> {
    match code {
        Some(code) if is_same(&history.kind, &code) => {
            Ok((!values::are_same(&history.kind, &code)).then(|| values::difference(event_index, history, code)))
        }
        code => Err(difference(event_index, history, code)),
    }
}

/// The kind and what identifies it.
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
        // Whether it gave a value or an error is one of the things that may differ.
        (
            E::UpdateCompleted { id: i1, .. } | E::UpdateFailed { id: i1, .. },
            E::UpdateCompleted { id: i2, .. } | E::UpdateFailed { id: i2, .. },
        ) => i1 == i2,
        (E::EndRequested { workflow: w1, id: i1, .. }, E::EndRequested { workflow: w2, id: i2, .. })
        | (E::SendRefused { workflow: w1, id: i1, .. }, E::SendRefused { workflow: w2, id: i2, .. }) => {
            w1 == w2 && i1 == i2
        }
        (E::VersionMarked { change: c1, version: v1, .. }, E::VersionMarked { change: c2, version: v2, .. }) => {
            c1 == c2 && v1 == v2
        }
        (E::AttributeSet { name: n1, .. }, E::AttributeSet { name: n2, .. }) => n1 == n2,
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
