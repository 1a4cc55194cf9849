//! Maps the client's and the server's errors to kinds, which tell the caller whether to try again.

use std::error::Error as StdError;
use std::fmt::Display;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::{ConnectError, ConnectErrorKind, rustls};
use partitura_broker::{Error, ErrorKind};

/// The error of an attempt to connect to `server`.
pub(crate) fn connecting(server: &str, error: ConnectError) -> Error {
    let (kind, message) = match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            (ErrorKind::Unauthorized, "the server refuses the credentials".to_owned())
        }
        ConnectErrorKind::ServerParse => {
            (ErrorKind::InvalidArgument, "the address cannot be read; write nats://HOST:PORT".to_owned())
        }
        _ if is_about_certificates(&error) => (
            ErrorKind::Unauthorized,
            "the server's certificate is not trusted; name its authority with `ca`".to_owned(),
        ),
        _ => (ErrorKind::Disconnected, format!("cannot connect: {error}")),
    };
    Error::new(kind, "connect", message).of(server).because(error)
}

/// Whether TLS itself failed. Another attempt does not change that.
fn is_about_certificates(error: &(dyn StdError + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let tls = error.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
    let refused =
        tls.is_some_and(|tls| matches!(tls, rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)));
    refused || error.source().is_some_and(is_about_certificates)
}

/// The error of a request without an answer.
pub(crate) fn unanswered(
    operation: &'static str,
    subject: impl Display,
    error: async_nats::jetstream::context::RequestError,
) -> Error {
    let (kind, message) = match error.kind() {
        RequestErrorKind::TimedOut => (ErrorKind::Timeout, "the server did not answer in time"),
        RequestErrorKind::NoResponders => (ErrorKind::Disconnected, "no server answers for JetStream at the moment"),
        RequestErrorKind::InvalidSubject => (ErrorKind::InvalidArgument, "the server does not accept this name"),
        RequestErrorKind::Other => (ErrorKind::Disconnected, "the connection was lost, or the answer cannot be read"),
    };
    Error::new(kind, operation, message).of(subject).because(error)
}

/// The error of a request that the server refused.
pub(crate) fn refused(operation: &'static str, subject: impl Display, error: async_nats::jetstream::Error) -> Error {
    let kind = match error.error_code() {
        ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND | ErrorCode::CONSUMER_DOES_NOT_EXIST => {
            ErrorKind::NotFound
        }
        ErrorCode::STREAM_NAME_EXIST
        | ErrorCode::CONSUMER_ALREADY_EXISTS
        | ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE => ErrorKind::Incompatible,
        ErrorCode::INSUFFICIENT_RESOURCES | ErrorCode::STORAGE_RESOURCES_EXCEEDED => ErrorKind::Storage,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED | ErrorCode::STREAM_STORE_FAILED => ErrorKind::Storage,
        ErrorCode::STREAM_OFFLINE | ErrorCode::CONSUMER_OFFLINE | ErrorCode::CLUSTER_NOT_AVAILABLE => {
            ErrorKind::Disconnected
        }
        _ => match error.code() {
            401 | 403 => ErrorKind::Unauthorized,
            408 | 429 => ErrorKind::Throttled,
            500.. => ErrorKind::Storage,
            _ => ErrorKind::Incompatible,
        },
    };
    Error::new(kind, operation, format!("the server refuses: {error}")).of(subject).because(error)
}

pub(crate) fn disconnected(operation: &'static str) -> Error {
    Error::new(ErrorKind::Disconnected, operation, "the connection was lost")
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "this broker was closed; connect again")
}
