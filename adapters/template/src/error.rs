//! Maps the client's and the server's errors to kinds, which tell the caller whether to try again.

use partitura_broker::{Error, ErrorKind};
use sqlx::error::DatabaseError;

/// The error of a statement, or of an attempt to connect, that failed.
pub(crate) fn classify(operation: &'static str, error: sqlx::Error) -> Error {
    let (kind, advice) = kind_and_advice(&error);
    let said = error.as_database_error().map(DatabaseError::message);
    let message = said.map_or_else(|| advice.to_owned(), |said| format!("{said}; {advice}"));
    Error::new(kind, operation, message).because(error)
}

/// The error of a request without an answer in time. Its connection is given up, too.
pub(crate) fn timed_out(operation: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, operation, "the server did not answer in time, and the connection was given up")
}

pub(crate) fn disconnected(operation: &'static str) -> Error {
    Error::new(ErrorKind::Disconnected, operation, "the connection was lost; a new one is opened by the next request")
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "this broker was closed; connect again")
}

/// The error of a request that may have been carried out. A caller that repeats the request has to know this.
pub(crate) fn outcome_unknown(operation: &'static str, error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Timeout) {
        return error;
    }
    let message = "the connection broke before the answer came; do it again under the same id";
    Error::new(ErrorKind::OutcomeUnknown, operation, message).because(error)
}

/// The error of a URL that is none. The client's own error would quote it, with the password.
pub(crate) fn not_a_url() -> Error {
    let message = "not a URL of Postgres, or with a parameter that it does not know; write \
                   postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full&sslrootcert=FILE";
    Error::new(ErrorKind::InvalidArgument, "connect", message)
}

fn kind_and_advice(error: &sqlx::Error) -> (ErrorKind, &'static str) {
    let untrusted =
        (ErrorKind::Unauthorized, "TLS was refused: check sslmode, sslrootcert and the server's certificate");
    match error {
        sqlx::Error::Database(error) => of_sqlstate(error.code().as_deref().unwrap_or_default()),
        sqlx::Error::Tls(_) => untrusted,
        // The form in which the client reports that it does not accept the certificate.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => untrusted,
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
            (ErrorKind::Corrupt, "the tables hold a value that this adapter did not write")
        }
        _ => (ErrorKind::Disconnected, "there is no connection to the server; is it running?"),
    }
}

/// The meaning of an SQLSTATE; see Appendix A of Postgres' documentation.
fn of_sqlstate(code: &str) -> (ErrorKind, &'static str) {
    match code {
        "3D000" => (ErrorKind::NotFound, "create the database first"),
        "42501" => (ErrorKind::Unauthorized, "grant the role what it needs, or let another create the tables"),
        "42704" => (ErrorKind::Incompatible, "Postgres 14 or newer is needed, for its idle_session_timeout"),
        "53300" => (ErrorKind::Throttled, "the server has no connection left; raise max_connections"),
        "57014" => (ErrorKind::Timeout, "the server cancelled the statement: see statement_timeout"),
        _ if code.starts_with("28") => (ErrorKind::Unauthorized, "check user, password and pg_hba.conf"),
        _ if code.starts_with("42") => (ErrorKind::Incompatible, "the tables are not those of this adapter"),
        // Connection exceptions, and a server that stops or starts.
        _ if code.starts_with("08") || code.starts_with("57P") => {
            (ErrorKind::Disconnected, "the server ended the connection")
        }
        _ => (ErrorKind::Storage, "nothing was written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_may_pass_are_retryable() {
        let kind = |code| of_sqlstate(code).0;
        assert_eq!([kind("28P01"), kind("42P01")], [ErrorKind::Unauthorized, ErrorKind::Incompatible]);
        assert!(["57P01", "08006", "53300", "53100", "40P01"].into_iter().all(|code| kind(code).is_retryable()));
        let io = |kind: std::io::ErrorKind| classify("connect", sqlx::Error::Io(kind.into())).kind();
        assert_eq!(io(std::io::ErrorKind::InvalidData), ErrorKind::Unauthorized, "a certificate");
        assert_eq!(io(std::io::ErrorKind::ConnectionRefused), ErrorKind::Disconnected);
    }
}
