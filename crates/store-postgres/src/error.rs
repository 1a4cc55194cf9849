//! Maps errors of the client and of the server to the kinds that the engine knows.

use partitura_broker::{Error, ErrorKind};
use sqlx::error::DatabaseError;

/// An invalid URL. The client's error may quote it, so it is not kept.
pub(crate) fn invalid_url(error: &sqlx::Error) -> Error {
    tracing::trace!(is_configuration = matches!(error, sqlx::Error::Configuration(_)), "not a URL of Postgres");
    let message = "not a URL of Postgres, or with a setting that it does not know: write \
                   postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE";
    Error::new(ErrorKind::InvalidArgument, "connect", message)
}

const POOLER: &str = "the settings of a session do not reach the server, as behind a pooler that hands out transactions \
                      or statements; connect to the server itself, the store has few connections";

/// The server does not have the settings that were sent with the connection.
pub(crate) fn without_session() -> Error {
    Error::new(ErrorKind::Incompatible, "connect", POOLER)
}

/// The error of connecting, reading or migrating: nothing depends on the outcome.
pub(crate) fn from_sqlx(operation: &'static str, error: sqlx::Error) -> Error {
    let (kind, advice) = classify(&error);
    with_source(kind, operation, advice, error)
}

/// The error of a write. If the connection breaks, the outcome is unknown.
pub(crate) fn from_write(error: sqlx::Error) -> Error {
    if is_broken(&error) {
        let advice = "the connection broke before the answer came; load again to see what was written";
        return with_source(ErrorKind::OutcomeUnknown, "write", advice, error);
    }
    from_sqlx("write", error)
}

/// Whether the statement was undone because of concurrent writes, so that it can be sent again.
pub(crate) fn is_undone_by_others(error: &sqlx::Error) -> bool {
    // unique_violation (another writer added the key after the comparison), serialization_failure, deadlock_detected.
    matches!(code(error).as_deref(), Some("23505" | "40001" | "40P01"))
}

/// Whether the connection cannot be used any more.
pub(crate) fn is_broken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_none() || classify(error).0 == ErrorKind::Disconnected
}

fn with_source(kind: ErrorKind, operation: &'static str, advice: &str, error: sqlx::Error) -> Error {
    let said = error.as_database_error().map(DatabaseError::message).map(str::to_owned);
    let message = match said {
        Some(said) => format!("{said}; {advice}"),
        None => advice.to_owned(),
    };
    Error::new(kind, operation, message).because(error)
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()))
}

const TLS: (ErrorKind, &str) =
    (ErrorKind::Unauthorized, "TLS was refused: check sslmode, sslrootcert and the server's certificate");

fn classify(error: &sqlx::Error) -> (ErrorKind, &'static str) {
    match error {
        // The refusal of a pooler, which the server itself never sends: protocol_violation.
        sqlx::Error::Database(refusal) if refusal.message().contains("unsupported startup parameter") => {
            (ErrorKind::Incompatible, POOLER)
        }
        sqlx::Error::Database(_) => classify_code(&code(error).unwrap_or_default()),
        sqlx::Error::Tls(_) => TLS,
        // The form in which the client reports that it does not accept the server's certificate.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => TLS,
        sqlx::Error::PoolTimedOut => (ErrorKind::Timeout, "no connection became free, or none could be made, in time"),
        sqlx::Error::PoolClosed => (ErrorKind::Closed, "the store was closed"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            (ErrorKind::Corrupt, "the table holds a value of another type than its column")
        }
        _ => (ErrorKind::Disconnected, "there is no connection to the server; is it running?"),
    }
}

/// Classifies a SQLSTATE, as in Postgres' Appendix A.
fn classify_code(code: &str) -> (ErrorKind, &'static str) {
    match code {
        "3D000" => (ErrorKind::NotFound, "create the database first"),
        "42501" => (ErrorKind::Unauthorized, "grant the role the right, or let another role create the tables"),
        "3F000" | "42P01" | "42703" => {
            (ErrorKind::Incompatible, "the tables are missing or differ; connect with migrate")
        }
        // Prepared on another connection of the pooler: invalid_sql_statement_name, duplicate_prepared_statement.
        "26000" | "42P05" => (ErrorKind::Incompatible, POOLER),
        "53300" => (ErrorKind::Throttled, "the server has no connection left; raise max_connections or lower readers"),
        "57014" => (ErrorKind::Timeout, "the server cancelled the statement: see statement_timeout"),
        "25006" => (ErrorKind::Disconnected, "the server takes no writes; is it a standby?"),
        "XX001" | "XX002" => (ErrorKind::Corrupt, "the server found damaged data"),
        "54000" | "22001" => (ErrorKind::PayloadTooLarge, "the server does not take a value of this size"),
        _ if code.starts_with("28") => (ErrorKind::Unauthorized, "check user, password and pg_hba.conf"),
        // Shutting down, crashed, or starting; and all of class 08, connection exceptions.
        "57P01" | "57P02" | "57P03" | "57P05" => (ErrorKind::Disconnected, "the server ended the connection"),
        _ if code.starts_with("08") => (ErrorKind::Disconnected, "the server ended the connection"),
        _ => (ErrorKind::Storage, "nothing was written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_decides_whether_to_try_again() {
        for (code, kind) in [
            ("28P01", ErrorKind::Unauthorized),
            ("57P01", ErrorKind::Disconnected),
            ("08006", ErrorKind::Disconnected),
            ("53100", ErrorKind::Storage),
            ("53300", ErrorKind::Throttled),
            ("42P01", ErrorKind::Incompatible),
        ] {
            assert_eq!(classify_code(code).0, kind, "{code}");
        }
    }

    #[test]
    fn a_connection_that_breaks_while_writing_leaves_the_outcome_open() {
        let broken = || sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(from_write(broken()).kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(from_sqlx("get", broken()).kind(), ErrorKind::Disconnected);
        assert!(is_broken(&broken()) && !is_undone_by_others(&broken()));
    }

    #[test]
    fn a_certificate_that_is_refused_is_not_taken_for_a_server_that_is_away() {
        let refused = || sqlx::Error::Io(std::io::ErrorKind::InvalidData.into());
        assert_eq!(from_sqlx("connect", refused()).kind(), ErrorKind::Unauthorized);
        assert_eq!(from_write(refused()).kind(), ErrorKind::OutcomeUnknown);
    }
}
