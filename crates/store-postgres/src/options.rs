use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::error;

/// Options for the connection to Postgres, and for its tables.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) schema: String,
    pub(crate) migrate: bool,
    pub(crate) writers: NonZeroU32,
    pub(crate) readers: NonZeroU32,
    pub(crate) request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            schema: "partitura".to_owned(),
            migrate: true,
            writers: NonZeroU32::MIN.saturating_add(1),
            readers: NonZeroU32::MIN.saturating_add(7),
            request_timeout: Duration::from_secs(30),
        }
    }
}

impl Options {
    /// The schema that holds the tables, of lower-case letters, digits and underscores. `partitura` unless set, here
    /// or as `schema=` in the URL, which prevails.
    #[must_use]
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// Whether missing tables are created, and old ones brought up to date. `true` unless set; with `false` they are
    /// only verified. `true` needs the right to create a schema, or a schema that exists and belongs to the role.
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Connections that write, each with one commit on its way. 2 unless set: one forms and sends while the other waits
    /// for the disk.
    #[must_use]
    pub fn writers(mut self, most: NonZeroU32) -> Self {
        self.writers = most;
        self
    }

    /// The largest number of connections that read. They are opened when they are needed. 8 unless set.
    #[must_use]
    pub fn readers(mut self, most: NonZeroU32) -> Self {
        self.readers = most;
        self
    }

    /// The time to wait for a connection, and for an answer, before it counts as lost. 30 s unless set.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }
}

/// The client's configuration, with all settings that the statements need.
#[derive(Clone)]
pub(crate) struct Address(pub(crate) PgConnectOptions);

impl Address {
    /// Takes our parameter `schema` out of the URL; the rest is for the client.
    pub(crate) fn parse(url: &str, options: &mut Options) -> Result<Self> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (ours, theirs): (Vec<&str>, Vec<&str>) =
            query.split('&').filter(|pair| !pair.is_empty()).partition(|pair| pair.starts_with("schema="));
        if let Some((_, name)) = ours.last().and_then(|pair| pair.split_once('=')) {
            name.clone_into(&mut options.schema);
        }
        check_schema(&options.schema)?;
        let url = if theirs.is_empty() { base.to_owned() } else { format!("{base}?{}", theirs.join("&")) };
        let address = PgConnectOptions::from_str(&url).map_err(|source| error::invalid_url(&source))?;
        // Every key is looked up by the primary key, also if the planner last saw the table when it was empty. Such
        // settings of a session do not work with a pooler that distributes single statements.
        let settings = [
            ("default_transaction_isolation", "read\\ committed"),
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ];
        Ok(Self(address.application_name("partitura").options(settings).disable_statement_logging()))
    }
}

impl fmt::Display for Address {
    /// Leaves credentials out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get_socket() {
            Some(socket) => write!(f, "{}", socket.display())?,
            None => write!(f, "{}:{}", self.0.get_host(), self.0.get_port())?,
        }
        self.0.get_database().map_or(Ok(()), |database| write!(f, "/{database}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name becomes part of statements, so it must need no quotes.
fn check_schema(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if starts_well && name.len() <= 63 && name.bytes().all(is_plain) {
        return Ok(());
    }
    let message = "it must be 1 to 63 lower-case letters, digits and underscores, and begin with no digit";
    Err(Error::new(ErrorKind::InvalidArgument, "connect", message).of(format_args!("schema {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<(Address, Options)> {
        let mut options = Options::default();
        Address::parse(url, &mut options).map(|address| (address, options))
    }

    #[test]
    fn a_url_names_the_schema_and_everything_that_the_client_knows() {
        let (address, options) =
            parse("postgres://ada:secret@host:1/db?schema=staging&sslmode=disable").expect("a URL");
        assert_eq!((options.schema.as_str(), address.to_string().as_str()), ("staging", "host:1/db"));
        assert!(matches!(address.0.get_ssl_mode(), sqlx::postgres::PgSslMode::Disable));
        assert_eq!(parse("postgres://host/db").expect("a URL").1.schema, "partitura");
    }

    #[test]
    fn an_error_names_the_fault_without_the_password() {
        for url in ["postgres://ada:secret@host:x/db", "postgres://ada:secret@host/db?sslmode=perhaps", "secret"] {
            let error = parse(url).expect_err("no URL");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
        let (address, _) = parse("postgres://ada:secret@host/db").expect("a URL");
        assert!(!format!("{address:?} {address}").contains("secret"));
    }

    #[test]
    fn a_schema_needs_no_quotes() {
        for name in ["", "1st", "Upper", "a b", "a\"", "a;b", &"a".repeat(64)] {
            assert!(check_schema(name).is_err(), "{name:?}");
        }
        check_schema("staging_2").expect("a name");
    }
}
