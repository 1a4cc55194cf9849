//! Maps the client's and the broker's errors to kinds, which tell the caller whether to try again.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use partitura_broker::{Error, ErrorKind};

/// The error of a request, or of an attempt to connect, that failed.
pub(crate) fn classify(operation: &'static str, error: lapin::Error) -> Error {
    let (kind, message) = kind_and_message(&error);
    Error::new(kind, operation, message).because(error)
}

fn kind_and_message(error: &lapin::Error) -> (ErrorKind, String) {
    let protocol = match error.kind() {
        lapin::ErrorKind::ProtocolError(protocol) => protocol,
        lapin::ErrorKind::IOError(io) if is_untrusted(io) => {
            let message = format!("the server's certificate is not trusted ({io}); name its authority with `ca`");
            return (ErrorKind::Unauthorized, message);
        }
        lapin::ErrorKind::IOError(io) if io.kind() == std::io::ErrorKind::TimedOut => {
            return (ErrorKind::Timeout, format!("the broker does not answer: {io}"));
        }
        lapin::ErrorKind::ChannelsLimitReached => {
            let message = "the channels of the connection are used up, and the next attempt gets another connection; \
                           if this comes often, raise the server's channel_max";
            return (ErrorKind::Disconnected, message.into());
        }
        _ => return (ErrorKind::Disconnected, "there is no connection to the broker".into()),
    };
    let text = protocol.get_message().as_str();
    let kind = match protocol.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => ErrorKind::Unauthorized,
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => ErrorKind::NotFound,
        AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => ErrorKind::Busy,
        // The server has the same code for a delivery that was held longer than its consumer_timeout.
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if text.contains("timed out") => ErrorKind::Disconnected,
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => ErrorKind::Incompatible,
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if text.contains("not found") => ErrorKind::NotFound,
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => ErrorKind::Unauthorized,
        _ => ErrorKind::Disconnected,
    };
    (kind, format!("the broker says {text:?}"))
}

/// Whether TLS failed because the certificate is not trusted. The TLS library's error comes within an I/O error.
fn is_untrusted(error: &std::io::Error) -> bool {
    let text = error.to_string();
    error.kind() == std::io::ErrorKind::InvalidData && text.contains("certificate")
}

/// The error of a call after the broker was closed.
pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "this broker was closed; connect again")
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    #[test]
    fn errors_say_whether_to_try_again() {
        let soft = |kind: AMQPSoftError, text: &str| {
            classify("test", lapin::ErrorKind::ProtocolError(AMQPError::new(kind.into(), text.into())).into())
        };
        let refused = soft(AMQPSoftError::ACCESSREFUSED, "ACCESS_REFUSED - Login was refused");
        assert_eq!(refused.kind(), ErrorKind::Unauthorized);
        assert!(refused.to_string().contains("Login was refused"), "{refused}");
        assert_eq!(soft(AMQPSoftError::NOTFOUND, "no queue").kind(), ErrorKind::NotFound);
        let late = soft(AMQPSoftError::PRECONDITIONFAILED, "delivery acknowledgement on channel 1 timed out");
        assert!(late.is_retryable(), "{late}");
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(classify("test", io.into()).is_retryable());
    }
}
