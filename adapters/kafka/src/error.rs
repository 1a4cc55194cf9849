//! The meaning of the failures of librdkafka.

use partitura_broker::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The kind of a code that answers a request. The request had no effect.
pub(crate) fn kind(code: RDKafkaErrorCode) -> ErrorKind {
    use RDKafkaErrorCode::*;
    match code {
        Authentication
        | SaslAuthenticationFailed
        | UnsupportedSASLMechanism
        | IllegalSASLState
        | TopicAuthorizationFailed
        | GroupAuthorizationFailed
        | ClusterAuthorizationFailed
        | TransactionalIdAuthorizationFailed => ErrorKind::Unauthorized,
        UnknownTopic | UnknownTopicOrPartition | UnknownPartition | NoEnt | GroupIdNotFound => ErrorKind::NotFound,
        MessageSizeTooLarge | MessageBatchTooLarge | InvalidMessageSize => ErrorKind::PayloadTooLarge,
        InvalidTopic
        | InvalidConfig
        | InvalidPartitions
        | InvalidReplicationFactor
        | InvalidRequest
        | InvalidArgument
        | InvalidRecord
        | PolicyViolation => ErrorKind::InvalidArgument,
        UnsupportedVersion | UnsupportedFeature | UnsupportedForMessageFormat => ErrorKind::Incompatible,
        QueueFull | ThrottlingQuotaExceeded => ErrorKind::Throttled,
        OperationTimedOut | RequestTimedOut | TimedOutQueue => ErrorKind::Timeout,
        KafkaStorageError => ErrorKind::Storage,
        _ => ErrorKind::Disconnected,
    }
}

/// The kind of a code that a message got. A message that was not refused may have been stored.
fn message_kind(code: RDKafkaErrorCode) -> ErrorKind {
    match kind(code) {
        ErrorKind::Timeout | ErrorKind::Disconnected | ErrorKind::Storage => ErrorKind::OutcomeUnknown,
        kind => kind,
    }
}

/// The error for a failure of the client during `operation`.
pub(crate) fn error(operation: &'static str, source: KafkaError) -> Error {
    let kind = match (&source, source.rdkafka_error_code()) {
        (KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_), _) => ErrorKind::InvalidArgument,
        (_, Some(code)) => kind(code),
        _ => ErrorKind::Disconnected,
    };
    Error::new(kind, operation, format!("{}: {source}", hint(kind))).because(source)
}

/// The error for a refusal with this code.
pub(crate) fn refused(operation: &'static str, code: RDKafkaErrorCode) -> Error {
    let kind = kind(code);
    Error::new(kind, operation, format!("{}: {code}", hint(kind)))
}

/// The error for a message whose record failed with this code.
pub(crate) fn unconfirmed(code: RDKafkaErrorCode) -> Error {
    Error::new(message_kind(code), "publish", format!("the record was not confirmed: {code}"))
}

/// The answer to every call after the close.
pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "this connection was closed")
}

/// The error for a thread that could not be started.
pub(crate) fn thread(operation: &'static str, source: std::io::Error) -> Error {
    Error::new(ErrorKind::Storage, operation, "the operating system refused another thread").because(source)
}

fn hint(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unauthorized => "Kafka refused the credentials, or they lack a right; see the source",
        ErrorKind::NotFound => "it does not exist on this cluster; declare it first",
        ErrorKind::PayloadTooLarge => "larger than the topic's max.message.bytes",
        ErrorKind::InvalidArgument => "Kafka or its client refused the request as it is",
        ErrorKind::Incompatible => "the brokers are too old for this request",
        ErrorKind::Throttled => "the producer's queue is full, or a quota is used up; try again later",
        ErrorKind::Timeout => "no answer in time",
        ErrorKind::Storage => "a broker cannot write to its disk",
        _ => "the brokers cannot be reached, or are not ready; the client keeps trying",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_of_a_message_is_unknown_unless_it_was_refused() {
        for (code, expected) in [
            (RDKafkaErrorCode::MessageTimedOut, ErrorKind::OutcomeUnknown),
            (RDKafkaErrorCode::PurgeInflight, ErrorKind::OutcomeUnknown),
            (RDKafkaErrorCode::BrokerTransportFailure, ErrorKind::OutcomeUnknown),
            (RDKafkaErrorCode::UnknownTopicOrPartition, ErrorKind::NotFound),
            (RDKafkaErrorCode::MessageSizeTooLarge, ErrorKind::PayloadTooLarge),
            (RDKafkaErrorCode::TopicAuthorizationFailed, ErrorKind::Unauthorized),
        ] {
            assert_eq!(message_kind(code), expected, "{code:?}");
        }
    }
}
