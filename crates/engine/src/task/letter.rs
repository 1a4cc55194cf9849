//! The dead letter of a task that has no attempt left.

use partitura_broker::{Limits, Message, Partition, Result, Timestamp};
use partitura_lanes::{DeadLetter, GivenUp, SubscriptionTopics};
use partitura_workflow::Failure;

use crate::wire::{Payloads, TaskRequest};

/// The letter: sent again, the task begins anew.
pub(crate) fn write(
    payloads: &Payloads,
    request: &TaskRequest,
    (source, limits): (&SubscriptionTopics, &Limits),
    failure: &Failure,
    now: Timestamp,
) -> Result<Option<Message>> {
    let attempts = request.attempt;
    let given_up = GivenUp {
        reason: format!("gave up after {attempts} attempts"),
        error: Some(failure.to_string()),
        attempts,
        partition: Partition(0),
        at: now,
    };
    let fresh =
        TaskRequest { attempt: 1, heartbeat: None, holder: None, begins_at: None, copies: 0, ..request.clone() };
    let message = Message::new(source.topic().clone(), request.message_id(), payloads.encode(&fresh));
    DeadLetter::write(message, source, given_up, limits)
}
