use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use partitura_broker::Result;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::{error, names};

/// Options for the connection to the server. They hold no secret: credentials are in the URL, or in libpq's environment
/// (`PGPASSWORD`).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The schema that holds the tables, of lower-case letters, digits and underscores; `?schema=` in the URL comes
    /// first. By default `partitura_template`.
    pub schema: String,
    /// The time to wait for a connection, and for each answer, before the connection counts as lost. By default 10 s.
    /// The server takes the claims of a client away that is silent for one and a half times as long.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { schema: "partitura_template".to_owned(), request_timeout: Duration::from_secs(10) }
    }
}

/// The address of the server, from the URL and the options.
#[derive(Clone)]
pub(crate) struct Address {
    client: PgConnectOptions,
    pub(crate) schema: String,
    pub(crate) request_timeout: Duration,
}

impl Address {
    /// Takes this adapter's parameter `schema` out of the URL. The other parameters are for the client.
    pub(crate) fn parse(url: &str, options: Options) -> Result<Self> {
        let Options { mut schema, request_timeout } = options;
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut theirs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.strip_prefix("schema=") {
                Some(name) => name.clone_into(&mut schema),
                None => theirs.push(pair),
            }
        }
        names::check_schema(&schema)?;
        let client =
            PgConnectOptions::from_str(&format!("{base}?{}", theirs.join("&"))).map_err(|_| error::not_a_url())?;
        // A client that is silent for this time loses its session, and with it its locks. This ends the ownership of a
        // machine that has disappeared. Sessions in use are never silent: see `Session`.
        let lease = request_timeout + request_timeout / 2;
        let client = client
            .application_name("partitura")
            .options([("search_path", schema.clone()), ("idle_session_timeout", lease.as_millis().to_string())])
            .disable_statement_logging();
        Ok(Self { client, schema, request_timeout })
    }

    /// The options of the client library.
    pub(crate) fn client_options(&self) -> PgConnectOptions {
        self.client.clone()
    }
}

impl fmt::Display for Address {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.client.get_host(), self.client.get_port())
    }
}

impl fmt::Debug for Address {
    /// Without credentials, which the client's own form would show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}/{}", self.schema)
    }
}

#[cfg(test)]
mod tests {
    use partitura_broker::ErrorKind;

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
