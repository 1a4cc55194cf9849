//! Events and texts without what makes them large.

use partitura_workflow::{Attribute, EventKind, Failure, Payload};

/// The longest text, in bytes, that an event keeps which is too large as it is.
const SHORT: usize = 256;

/// The event without its payloads, and with its texts cut.
pub(crate) fn shortened(kind: &EventKind) -> EventKind {
    use EventKind as E;
    let mut kind = kind.clone();
    match &mut kind {
        E::WorkflowStarted(started) => {
            started.input = Payload::null();
            started.tags.clear();
            started.continued = None;
        }
        E::SignalReceived { name, payload, .. }
        | E::SignalSent { name, payload, .. }
        | E::UpdateReceived { name, args: payload, .. } => {
            shorten(name, SHORT);
            *payload = Payload::null();
        }
        E::TaskScheduled { args, .. } => *args = Payload::null(),
        E::ChildStarted { input, tags, .. } => {
            *input = Payload::null();
            tags.clear();
        }
        E::TaskCompleted { result, .. }
        | E::ChildCompleted { result, .. }
        | E::StepCompleted { result, .. }
        | E::UpdateCompleted { result, .. }
        | E::WorkflowCompleted { result } => *result = Payload::null(),
        E::WorkflowContinued { input, .. } => *input = Payload::null(),
        E::TaskFailed { failure, .. }
        | E::ChildFailed { failure, .. }
        | E::StepFailed { failure, .. }
        | E::UpdateFailed { failure, .. }
        | E::WorkflowFailed { failure }
        | E::WorkflowRetried { failure, .. } => shorten_failure(failure),
        E::WorkflowCancelled { reason, failure } => {
            reason.iter_mut().for_each(|reason| shorten(reason, SHORT));
            failure.iter_mut().for_each(shorten_failure);
        }
        E::CancelRequested { reason } => reason.iter_mut().for_each(|reason| shorten(reason, SHORT)),
        E::WorkflowStopped { reason }
        | E::WorkflowPaused { reason }
        | E::Intervened { reason, .. }
        | E::EndRequested { reason, .. } => shorten(reason, SHORT),
        E::StepScheduled { name: text, .. } | E::VersionMarked { change: text, .. } => shorten(text, SHORT),
        E::AttributeSet { name, value, .. } => {
            shorten(name, SHORT);
            if let Some(Attribute::Text(text)) = value {
                shorten(text, SHORT);
            }
        }
        E::WorkflowResumed { refused } => refused.clear(),
        E::TaskHeartbeat { details, .. } => *details = None,
        _ => {}
    }
    kind
}

pub(crate) fn shorten_failure(failure: &mut Failure) {
    failure.details = None;
    failure.compensations.clear();
    failure.cause = None;
    shorten(&mut failure.message, SHORT);
}

/// Cuts a text to at most `most` bytes, at a character's boundary.
pub(crate) fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub('…'.len_utf8())));
        text.push('…');
    }
}
