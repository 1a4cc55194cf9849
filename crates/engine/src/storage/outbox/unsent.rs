//! Which messages have to be sent again.

use bytes::Bytes;
use partitura_broker::{Delivery, Error, ErrorKind, Message, Receipt, Result};

/// On a message that may have been sent before. Its receiver takes a delivery of it for a redelivery.
pub(super) const RESENT: &str = "partitura-resent";

/// Marks a message that may have been sent before.
pub(super) fn resent(mut message: Message) -> Message {
    message.headers.insert(RESENT, Bytes::new());
    message
}

/// Whether the broker says that a message was delivered before, or its sender that it may have sent it before.
pub(crate) fn may_have_come_before(delivery: &Delivery) -> bool {
    delivery.redelivered || delivery.message.headers.get(RESENT).is_some()
}

/// Messages that were not confirmed.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    /// The messages that may succeed later, in order.
    pub(super) again: Vec<Message>,
    pub(super) problem: Option<Error>,
    /// The messages that never will.
    pub(super) refused: Vec<Message>,
    pub(super) refusal: Option<Error>,
}

impl Unsent {
    /// Keeps the messages that are left, given the result of each. Where a message has to be sent again, so have those
    /// behind it that must not overtake it.
    pub(super) fn new(messages: Vec<Message>, results: Vec<Result<Receipt>>) -> Self {
        let mut unsent = Self::default();
        let mut results = results.into_iter();
        for message in messages {
            let behind = |earlier: &Message| {
                message.key.is_some() && earlier.key == message.key && earlier.topic == message.topic
            };
            match results.next().unwrap_or_else(|| Err(unknown())) {
                Err(error) if is_refusal(error.kind()) => {
                    unsent.refused.push(message);
                    unsent.refusal.get_or_insert(error);
                }
                Ok(_) if !unsent.again.iter().any(behind) => {}
                Ok(_) => unsent.again.push(resent(message)),
                Err(error) => {
                    let may_be_stored = error.kind() == ErrorKind::OutcomeUnknown;
                    unsent.again.push(if may_be_stored { resent(message) } else { message });
                    unsent.problem.get_or_insert(error);
                }
            }
        }
        unsent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.again.is_empty() && self.refusal.is_none()
    }

    /// Takes over what is left of another attempt.
    pub(super) fn absorb(&mut self, later: Self) {
        self.again = later.again;
        self.problem = later.problem;
        self.refused.extend(later.refused);
        self.refusal = self.refusal.take().or(later.refusal);
    }
}

/// Whether the broker will give the same answer however often it is asked.
pub(crate) fn is_refusal(kind: ErrorKind) -> bool {
    use ErrorKind::{Incompatible, InvalidArgument, NotFound, PayloadTooLarge, Unauthorized, Unsupported};
    matches!(kind, Unauthorized | NotFound | Incompatible | PayloadTooLarge | InvalidArgument | Unsupported)
}

fn unknown() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "publish", "the broker gave no result")
}
