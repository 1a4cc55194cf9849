use std::error::Error as StdError;
use std::fmt;

/// The result of a call to a broker.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure: its kind, the operation, its object, and the client's own error as the source.
///
/// Secrets never appear in it.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    subject: Option<String>,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kinds of errors. The kind says whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Wrong or missing credentials, or rights. Final.
    Unauthorized,
    /// The topic or subscription does not exist. Final.
    NotFound,
    /// It exists, and differs from the request; or a file or server is of a kind that cannot be worked with. Final.
    Incompatible,
    /// The message is larger than the [limit](crate::Limits). Final.
    PayloadTooLarge,
    /// The request contradicts the contract. Final.
    InvalidArgument,
    /// This broker declared that it cannot do this. Final.
    Unsupported,
    /// In a transaction: the state differs from the expectation. Load again.
    Conflict,
    /// In a transaction: a delivery to settle is no longer this consumer's. Stop: another owns it.
    Fenced,
    /// The file is in use by another process. Final until that leaves.
    Busy,
    /// Stored data is damaged. Final; nothing was touched.
    Corrupt,
    /// The connection is gone. Retryable.
    Disconnected,
    /// No answer in time to a request without effect. Retryable.
    Timeout,
    /// The broker asks to slow down. Retryable.
    Throttled,
    /// It may or may not have happened. Retryable with the same id.
    OutcomeUnknown,
    /// This broker, consumer or producer was closed by us. Final.
    Closed,
    /// The storage below failed: a full disk, an I/O error. Retryable.
    Storage,
}

impl ErrorKind {
    /// Its code, for logs, dashboards and alerts. `docs/reference/errors.md` says what to do about each.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Incompatible => "incompatible",
            Self::PayloadTooLarge => "payload_too_large",
            Self::InvalidArgument => "invalid_argument",
            Self::Unsupported => "unsupported",
            Self::Conflict => "conflict",
            Self::Fenced => "fenced",
            Self::Busy => "busy",
            Self::Corrupt => "corrupt",
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Closed => "closed",
            Self::Storage => "storage",
        }
    }

    /// Whether the same request may succeed later.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Disconnected | Self::Timeout | Self::Throttled | Self::OutcomeUnknown | Self::Storage)
    }
}

impl Error {
    /// An error of `kind`, met while doing `operation` (a verb: "publish", "declare").
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, operation, subject: None, message: message.into(), source: None }))
    }

    /// Names the topic, subscription, file or address concerned.
    #[must_use]
    pub fn of(mut self, subject: impl fmt::Display) -> Self {
        self.0.subject = Some(subject.to_string());
        self
    }

    /// Keeps the client library's error.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The topic, subscription, file or address concerned, where there is one.
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    /// The same error for another message of the same failed request; the source stays with the first.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            operation: self.0.operation,
            subject: self.0.subject.clone(),
            message: self.0.message.clone(),
            source: None,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, subject, message, .. } = &*self.0;
        match subject {
            Some(subject) => write!(f, "{operation} {subject}: {message}"),
            None => write!(f, "{operation}: {message}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<crate::InvalidName> for Error {
    fn from(error: crate::InvalidName) -> Self {
        Self::new(ErrorKind::InvalidArgument, "name", error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_done_to_what_and_keeps_its_source() {
        let error = Error::new(ErrorKind::Disconnected, "publish", "the broker closed the connection")
            .of("orders")
            .because(std::io::Error::other("reset by peer"));
        assert_eq!(error.to_string(), "publish orders: the broker closed the connection");
        assert!(error.is_retryable());
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("reset by peer"));
        assert_eq!(error.duplicate().kind(), ErrorKind::Disconnected);
        assert_eq!(size_of::<Error>(), size_of::<usize>(), "a result per message should stay small");
    }
}
