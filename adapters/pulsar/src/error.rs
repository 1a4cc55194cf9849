//! Pulsar's errors as errors of the contract.

use partitura_broker::{Error, ErrorKind};
use pulsar::proto::ServerError;
use reqwest::StatusCode;

/// The connection was lost, or could not be made.
pub(crate) fn disconnected(operation: &'static str) -> Error {
    Error::new(
        ErrorKind::Disconnected,
        operation,
        "the connection to the broker was lost; it is made again when needed",
    )
}

/// After [`close`](partitura_broker::Broker::close).
pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the broker was closed")
}

/// A task of this adapter did not come to its end.
pub(crate) fn stopped(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Disconnected, "forward", "a task was stopped").because(error)
}

/// A request without effect was not answered in time.
pub(crate) fn timeout(operation: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, operation, "the broker did not answer in time")
}

/// An answer that the protocol does not permit.
pub(crate) fn unexpected(operation: &'static str, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Incompatible, operation, format!("the broker answered with something unexpected: {what}"))
}

/// The error that the broker answered to a command.
pub(crate) fn from_server(operation: &'static str, code: i32, text: &str) -> Error {
    use ServerError as Code;
    let code = ServerError::try_from(code).unwrap_or(ServerError::UnknownError);
    let (kind, hint) = match code {
        Code::AuthenticationError => (ErrorKind::Unauthorized, "check the credentials"),
        Code::AuthorizationError => (ErrorKind::Unauthorized, "check the role's rights in the namespace"),
        Code::ConsumerBusy => (ErrorKind::Busy, "another consumer holds it"),
        Code::TopicNotFound | Code::SubscriptionNotFound => (ErrorKind::NotFound, "declare it first"),
        Code::ProducerBlockedQuotaExceededError | Code::ProducerBlockedQuotaExceededException => {
            (ErrorKind::Throttled, "the namespace's backlog quota is used up")
        }
        Code::TooManyRequests => (ErrorKind::Throttled, "try again later"),
        Code::InvalidTopicName => (ErrorKind::InvalidArgument, "the name of the topic"),
        Code::IncompatibleSchema
        | Code::UnsupportedVersionError
        | Code::TopicTerminatedError
        | Code::NotAllowedError => (ErrorKind::Incompatible, "the topic or its namespace does not allow it"),
        // These pass: a topic moves, a broker starts, the metadata store is away.
        _ => (ErrorKind::Disconnected, "try again"),
    };
    // A stack trace may follow.
    let text = text.lines().next().unwrap_or_default();
    Error::new(kind, operation, format!("the broker answered {}: {text} ({hint})", code.as_str_name()))
}

/// The error that the admin API answered.
pub(crate) fn from_status(operation: &'static str, status: StatusCode, text: &str) -> Error {
    let (kind, hint) = match status {
        StatusCode::UNAUTHORIZED => (ErrorKind::Unauthorized, "check the credentials"),
        StatusCode::FORBIDDEN => (ErrorKind::Unauthorized, "check the role's rights in the namespace"),
        StatusCode::NOT_FOUND => (ErrorKind::NotFound, "declare it first, and see that the namespace exists"),
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::Throttled, "try again later"),
        StatusCode::PRECONDITION_FAILED => (ErrorKind::InvalidArgument, "the broker refuses it"),
        status if status.is_server_error() => (ErrorKind::Disconnected, "try again"),
        _ => (ErrorKind::Incompatible, "this is no admin API that is known"),
    };
    let text: String = text.lines().next().unwrap_or_default().chars().take(300).collect();
    Error::new(kind, operation, format!("the admin API answered {status}: {text} ({hint})"))
}

/// A request to the admin API, or to an issuer of tokens, failed.
pub(crate) fn from_http(operation: &'static str, error: reqwest::Error) -> Error {
    let (kind, message) = match &error {
        error if error.is_timeout() => (ErrorKind::Timeout, "the HTTP server did not answer in time"),
        error if error.is_decode() => (ErrorKind::Incompatible, "the HTTP server's answer cannot be read"),
        error if error.is_builder() => (ErrorKind::InvalidArgument, "the HTTP request cannot be made"),
        error if is_tls_error(error) => (ErrorKind::Unauthorized, "the HTTP server's certificate is not trusted"),
        _ => (ErrorKind::Disconnected, "the HTTP server cannot be reached; see that the admin URL is right"),
    };
    Error::new(kind, operation, message).because(error.without_url())
}

fn is_tls_error(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.downcast_ref::<tokio_rustls::rustls::Error>().is_some() {
            return true;
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.get_ref().is_some_and(|inner| inner.is::<tokio_rustls::rustls::Error>())
        {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_the_broker_decides_whether_to_try_again() {
        for (code, kind) in [
            (ServerError::AuthenticationError, ErrorKind::Unauthorized),
            (ServerError::AuthorizationError, ErrorKind::Unauthorized),
            (ServerError::ConsumerBusy, ErrorKind::Busy),
            (ServerError::TopicNotFound, ErrorKind::NotFound),
            (ServerError::ServiceNotReady, ErrorKind::Disconnected),
            (ServerError::MetadataError, ErrorKind::Disconnected),
            (ServerError::ProducerBlockedQuotaExceededError, ErrorKind::Throttled),
        ] {
            let error = from_server("publish", code as i32, "because\n\tat java.lang.Thread.run");
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains("because") && !error.to_string().contains("Thread"), "{error}");
        }
        assert_eq!(from_status("declare", StatusCode::FORBIDDEN, "").kind(), ErrorKind::Unauthorized);
        assert_eq!(from_status("declare", StatusCode::BAD_GATEWAY, "").kind(), ErrorKind::Disconnected);
    }
}
