//! Maps the client's and the broker's errors to kinds, which tell the caller whether to try again.

use std::error::Error as StdError;

use fe2o3_amqp::connection::OpenError;
use fe2o3_amqp::link::{ReceiverAttachError, SenderAttachError};
use fe2o3_amqp::types::definitions::{self, AmqpError, ErrorCondition, LinkError};
use fe2o3_amqp::types::primitives::Symbol;
use fe2o3_amqp::types::sasl::SaslCode;
use partitura_broker::{Error, ErrorKind};

/// The beginning of the conditions of Service Bus.
const SERVICE_BUS: &str = "com.microsoft:";

/// The error of a call after the broker was closed.
pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "this broker was closed; connect again")
}

/// The error of a connection, session or link that is gone.
pub(crate) fn lost(operation: &'static str, error: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Disconnected, operation, "the connection to the broker is lost").because(error)
}

/// The error of an attempt to log in.
pub(crate) fn of_opening(error: OpenError) -> Error {
    let (kind, message) = match &error {
        OpenError::SaslError { code: SaslCode::Auth, .. } => {
            (ErrorKind::Unauthorized, "the broker does not accept the credentials".to_owned())
        }
        OpenError::ProtocolHeaderMismatch(_) => {
            (ErrorKind::Incompatible, "the server there does not speak AMQP 1.0 with SASL".to_owned())
        }
        OpenError::RemoteClosedWithError(said) => (kind(said), words(said)),
        _ => (ErrorKind::Disconnected, "the broker cannot be reached".to_owned()),
    };
    Error::new(kind, "connect", message).because(error)
}

/// The error of a receiver that the broker does not attach.
pub(crate) fn of_receiver(operation: &'static str, error: ReceiverAttachError) -> Error {
    match &error {
        // Of a queue, this is the number of its readers.
        ReceiverAttachError::RemoteClosedWithError(said)
            if said.condition == AmqpError::ResourceLimitExceeded.into() =>
        {
            Error::new(ErrorKind::Busy, operation, words(said))
        }
        ReceiverAttachError::RemoteClosedWithError(said) => refused(operation, said),
        _ => lost(operation, error),
    }
}

/// The error of a sender that the broker does not attach.
pub(crate) fn of_sender(operation: &'static str, error: SenderAttachError) -> Error {
    match &error {
        SenderAttachError::RemoteClosedWithError(said) => refused(operation, said),
        _ => lost(operation, error),
    }
}

/// The error of a request or a message that the broker refuses.
pub(crate) fn refused(operation: &'static str, said: &definitions::Error) -> Error {
    Error::new(kind(said), operation, words(said))
}

fn words(said: &definitions::Error) -> String {
    let text = said.description.as_deref().unwrap_or("no reason");
    format!("the broker says {text:?}")
}

/// Artemis has one condition for most errors, and numbers them in the text. Service Bus has conditions of its own.
fn kind(said: &definitions::Error) -> ErrorKind {
    let text = said.description.as_deref().unwrap_or_default();
    let has = |number: &str| text.contains(number);
    match &said.condition {
        // The maximum number of consumers is reached.
        _ if has("AMQ229200") => ErrorKind::Busy,
        // No such address, no such queue.
        _ if has("AMQ119002") || has("AMQ229017") => ErrorKind::NotFound,
        // The user may not do this.
        _ if has("AMQ229032") || has("AMQ229213") => ErrorKind::Unauthorized,
        // The address, or the disk, is full.
        _ if has("AMQ229102") || has("AMQ229119") => ErrorKind::Throttled,
        ErrorCondition::Custom(Symbol(condition)) if condition.starts_with(SERVICE_BUS) => {
            match condition.trim_start_matches(SERVICE_BUS) {
                "session-cannot-be-locked" => ErrorKind::Busy,
                "server-busy" => ErrorKind::Throttled,
                "entity-disabled" => ErrorKind::NotFound,
                "auth-failed" => ErrorKind::Unauthorized,
                "argument-error" | "argument-out-of-range" => ErrorKind::InvalidArgument,
                _ => ErrorKind::Disconnected,
            }
        }
        ErrorCondition::AmqpError(AmqpError::NotFound | AmqpError::ResourceDeleted) => ErrorKind::NotFound,
        ErrorCondition::AmqpError(AmqpError::UnauthorizedAccess) => ErrorKind::Unauthorized,
        ErrorCondition::AmqpError(AmqpError::ResourceLocked) => ErrorKind::Busy,
        ErrorCondition::AmqpError(AmqpError::ResourceLimitExceeded) => ErrorKind::Throttled,
        // An entity is of another kind, as one without sessions where partitions are sessions. It stays so.
        ErrorCondition::AmqpError(AmqpError::NotAllowed | AmqpError::NotImplemented | AmqpError::InvalidField) => {
            ErrorKind::Incompatible
        }
        ErrorCondition::LinkError(LinkError::MessageSizeExceeded) => ErrorKind::PayloadTooLarge,
        _ => ErrorKind::Disconnected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(condition: impl Into<ErrorCondition>, text: &str) -> definitions::Error {
        definitions::Error::new(condition, text.to_owned(), None)
    }

    fn custom(condition: &str) -> ErrorCondition {
        ErrorCondition::Custom(Symbol(format!("{SERVICE_BUS}{condition}")))
    }

    #[test]
    fn errors_say_whether_to_try_again() {
        let taken = "AMQ119005: error creating consumer, AMQ229200: Maximum Consumer Limit Reached on Queue:(q)";
        for (said, kind) in [
            (said(AmqpError::InternalError, taken), ErrorKind::Busy),
            (said(AmqpError::NotFound, "Queue: 'q' does not exist"), ErrorKind::NotFound),
            (said(AmqpError::InternalError, "AMQ119002: target address t does not exist"), ErrorKind::NotFound),
            (said(AmqpError::UnauthorizedAccess, "AMQ229213: User: ann does not have"), ErrorKind::Unauthorized),
            (said(AmqpError::ResourceLimitExceeded, "AMQ229102: Address a is full"), ErrorKind::Throttled),
            (said(AmqpError::InternalError, "what?"), ErrorKind::Disconnected),
            (said(custom("session-cannot-be-locked"), "locked"), ErrorKind::Busy),
            (said(custom("session-lock-lost"), "lost"), ErrorKind::Disconnected),
            (said(custom("argument-error"), "no such option"), ErrorKind::InvalidArgument),
            (said(AmqpError::NotAllowed, "the entity requires sessions"), ErrorKind::Incompatible),
            (said(AmqpError::NotImplemented, "no such filter"), ErrorKind::Incompatible),
            (said(LinkError::MessageSizeExceeded, "the message is too large"), ErrorKind::PayloadTooLarge),
        ] {
            let error = refused("test", &said);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(said.description.as_deref().expect("a text")), "{error}");
        }
    }

    #[test]
    fn wrong_credentials_are_told_from_a_broker_that_is_away() {
        let wrong = OpenError::SaslError { code: SaslCode::Auth, additional_data: None };
        assert_eq!(of_opening(wrong).kind(), ErrorKind::Unauthorized);
        let away = OpenError::Io(std::io::ErrorKind::ConnectionRefused.into());
        assert!(of_opening(away).is_retryable());
        let http = OpenError::ProtocolHeaderMismatch(bytes::Bytes::from_static(b"HTTP/1.1"));
        assert_eq!(of_opening(http).kind(), ErrorKind::Incompatible);
    }
}
