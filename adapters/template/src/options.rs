use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::time::timeout;

use crate::error;

/// Options for the connection to the server. They hold no secret: credentials are in the URL, or in libpq's environment
/// (`PGPASSWORD`).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The schema that holds the tables, of lower-case letters, digits and underscores; `?schema=` in the URL prevails.
    /// By default `partitura_template`.
    pub schema: String,
    /// The time to wait for a connection, and for each answer, before the connection counts as lost. By default 10 s.
    /// After one and a half times as long the server takes a silent client's claims away.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { schema: "partitura_template".to_owned(), patience: Duration::from_secs(10) }
    }
}

/// URL and options put together.
#[derive(Clone)]
pub(crate) struct Address {
    client: PgConnectOptions,
    pub(crate) schema: String,
    pub(crate) patience: Duration,
}

impl Address {
    /// Takes our parameter `schema` out of the URL; the rest is for the client.
    pub(crate) fn parse(url: &str, options: Options) -> Result<Self> {
        let Options { mut schema, patience } = options;
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut theirs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.strip_prefix("schema=") {
                Some(name) => name.clone_into(&mut schema),
                None => theirs.push(pair),
            }
        }
        check_schema(&schema)?;
        let client =
            PgConnectOptions::from_str(&format!("{base}?{}", theirs.join("&"))).map_err(|_| error::not_a_url())?;
        // A client that is silent for this time loses its session, and with it its locks. This ends the ownership of a
        // machine that has disappeared. Sessions in use are never silent: see `Session`.
        let lease = patience + patience / 2;
        let client = client
            .application_name("partitura")
            .options([("search_path", schema.clone()), ("idle_session_timeout", lease.as_millis().to_string())])
            .disable_statement_logging();
        Ok(Self { client, schema, patience })
    }

    /// For a client that opens connections by itself.
    pub(crate) fn client(&self) -> PgConnectOptions {
        self.client.clone()
    }

    pub(crate) async fn connect(&self, operation: &'static str) -> Result<PgConnection> {
        match timeout(self.patience, self.client.connect()).await {
            Ok(connected) => connected.map_err(|source| error::of(operation, source).of(self)),
            Err(_) => Err(error::silent(operation).of(self)),
        }
    }
}

impl fmt::Display for Address {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.client.get_host(), self.client.get_port())
    }
}

impl fmt::Debug for Address {
    /// The client's own form of it would show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}/{}", self.schema)
    }
}

/// The name becomes part of statements, so it must need no quotes.
fn check_schema(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 63 && name.chars().all(plain) {
        return Ok(());
    }
    let message = "a schema's name is a lower-case letter and up to 62 more, digits and underscores";
    Err(Error::new(ErrorKind::InvalidArgument, "connect", message).of(format_args!("{name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_schema_and_nothing_shows_the_password() {
        let url = "postgres://ada:hidden@host:1/db?schema=staging&sslmode=disable";
        let address = Address::parse(url, Options::default()).expect("a URL");
        assert_eq!(format!("{address:?}"), "host:1/staging");
        for wrong in ["postgres://ada:hidden@host:x/db", "postgres://ada:hidden@host/db?schema=A", "hidden"] {
            let error = Address::parse(wrong, Options::default()).expect_err("no URL");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
        }
    }
}
