//! What a connection needs to know: from a URL, from the environment, or field by field.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use partitura_broker::{Clock, Error, ErrorKind, Result, SystemClock};
use reqwest::Url;

use crate::names::Namespace;

/// The environment variable with a token, so that it need not be in a URL.
const TOKEN: &str = "PARTITURA_PULSAR_TOKEN";

/// How to connect. Everything has a default, and [`connect`](crate::Pulsar::connect)'s URL goes before it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The base URL of the admin API. `None`: port 8080 of the first host, or 8443 with TLS.
    pub admin: Option<String>,
    /// Who we are. `None`: whoever the broker takes an anonymous client for.
    pub credentials: Option<Credentials>,
    /// The certificate authorities to trust, in PEM. `None`: those that browsers trust.
    pub ca_file: Option<PathBuf>,
    /// The tenant and namespace of every topic: `tenant/namespace`. `None`: `public/default`.
    pub namespace: Option<String>,
    /// Which of the brokers' advertised listeners to be sent to. `None`: the broker decides by the port.
    pub listener: Option<String>,
    /// Whether messages of ordered topics are sent in batches.
    pub batching: Batching,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

/// Who a client is.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// A token (JWT).
    Token(String),
    /// A token in a file that is read again for each connection.
    TokenFile(PathBuf),
    /// OAuth 2.0 client credentials.
    OAuth2(OAuth2),
}

/// OAuth 2.0 client credentials, as StreamNative Cloud and others use them.
#[derive(Clone)]
pub struct OAuth2 {
    /// Where the provider describes itself: `/.well-known/openid-configuration` is added.
    pub issuer: String,
    /// A JSON file with `client_id` and `client_secret`.
    pub key_file: PathBuf,
    /// For whom the token is meant.
    pub audience: Option<String>,
    /// What is asked for.
    pub scope: Option<String>,
}

/// Whether messages of ordered topics are sent in batches. A batch is one entry of the log, and a broker can settle
/// single messages of an entry only where `acknowledgmentAtBatchIndexLevelEnabled` is on (the default from 4.1 on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Batching {
    /// Where the broker says in its configuration that it can settle single messages of a batch.
    #[default]
    Auto,
    /// Yes: the broker can, and does not let us read its configuration.
    On,
    /// No.
    Off,
}

impl Default for Options {
    /// Nothing special, save for a token in `PARTITURA_PULSAR_TOKEN`.
    fn default() -> Self {
        Self {
            admin: None,
            credentials: std::env::var(TOKEN).ok().filter(|token| !token.is_empty()).map(Credentials::Token),
            ca_file: None,
            namespace: None,
            listener: None,
            batching: Batching::Auto,
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for Options {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("admin", &self.admin)
            .field("credentials", &self.credentials)
            .field("ca_file", &self.ca_file)
            .field("namespace", &self.namespace)
            .field("listener", &self.listener)
            .field("batching", &self.batching)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(…)"),
            Self::TokenFile(path) => write!(f, "TokenFile({})", path.display()),
            Self::OAuth2(oauth2) => oauth2.fmt(f),
        }
    }
}

impl fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OAuth2({}, {:?}, {:?})", self.issuer, self.audience, self.scope)
    }
}

/// A broker or proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// What a URL and options come to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Any of them answers for the cluster.
    pub(crate) hosts: Vec<Host>,
    pub(crate) tls: bool,
    pub(crate) admin: Url,
    pub(crate) namespace: Namespace,
    pub(crate) options: Options,
}

impl Target {
    /// Reads `pulsar://host[:port][,host…][/tenant/namespace][?option=value…]`, or `pulsar+ssl://…`.
    pub(crate) fn parse(url: &str, mut options: Options) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
        let tls = match scheme {
            "pulsar" => false,
            "pulsar+ssl" => true,
            _ => return Err(invalid("its scheme is neither pulsar nor pulsar+ssl")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let default_port = if tls { 6651 } else { 6650 };
        let hosts: Vec<Host> = hosts.split(',').map(|host| Self::host(host, default_port)).collect::<Result<_>>()?;
        options.read(query)?;
        let path = path.trim_end_matches('/');
        let namespace = match (path, &options.namespace) {
            ("", None) => "public/default",
            ("", Some(namespace)) => namespace,
            (path, _) => path,
        };
        let plain =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-=:._".contains(&b));
        if namespace.split('/').count() != 2 || !namespace.split('/').all(plain) {
            return Err(invalid("its path is not tenant/namespace"));
        }
        let namespace = Namespace(namespace.to_owned());
        let admin = match (&options.admin, hosts.first()) {
            (Some(admin), _) => Url::parse(admin).map_err(|error| invalid("admin is not a URL").because(error))?,
            (None, Some(host)) => Self::admin_of(host, tls)?,
            (None, None) => return Err(invalid("it names no host")),
        };
        Ok(Self { hosts, tls, admin, namespace, options })
    }

    fn host(host: &str, default_port: u16) -> Result<Host> {
        // The port is behind the last colon that is not inside of an IPv6 address's brackets.
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => {
                (name, port.parse().map_err(|_| invalid("a port is not a number"))?)
            }
            _ => (host, default_port),
        };
        if name.is_empty() || name.contains('@') {
            return Err(invalid("a host is missing, or has a user before it; credentials are options (token=…)"));
        }
        Ok(Host { name: name.trim_matches(['[', ']']).to_owned(), port })
    }

    fn admin_of(host: &Host, tls: bool) -> Result<Url> {
        let name = if host.name.contains(':') { format!("[{}]", host.name) } else { host.name.clone() };
        let url = if tls { format!("https://{name}:8443") } else { format!("http://{name}:8080") };
        Url::parse(&url).map_err(|error| invalid("a host is not a name").because(error))
    }
}

impl Options {
    /// Takes up what the query of a URL says.
    fn read(&mut self, query: &str) -> Result<()> {
        let parsed = Url::parse(&format!("x://x?{query}")).map_err(|error| invalid("its options").because(error))?;
        let (mut issuer, mut key_file, mut audience, mut scope) = (None, None, None, None);
        for (name, value) in parsed.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())) {
            match name.as_str() {
                "admin" => self.admin = Some(value),
                "token" => self.credentials = Some(Credentials::Token(value)),
                "token_file" => self.credentials = Some(Credentials::TokenFile(value.into())),
                "ca" => self.ca_file = Some(value.into()),
                "listener" => self.listener = Some(value),
                "batching" => {
                    self.batching = match value.as_str() {
                        "auto" => Batching::Auto,
                        "on" => Batching::On,
                        "off" => Batching::Off,
                        _ => return Err(invalid("batching is auto, on or off")),
                    }
                }
                "oauth2_issuer" => issuer = Some(value),
                "oauth2_key_file" => key_file = Some(PathBuf::from(value)),
                "oauth2_audience" => audience = Some(value),
                "oauth2_scope" => scope = Some(value),
                _ => return Err(invalid(&format!("there is no option {name:?}"))),
            }
        }
        match (issuer, key_file) {
            (Some(issuer), Some(key_file)) => {
                self.credentials = Some(Credentials::OAuth2(OAuth2 { issuer, key_file, audience, scope }));
            }
            (None, None) if audience.is_none() && scope.is_none() => {}
            _ => return Err(invalid("OAuth 2.0 needs oauth2_issuer and oauth2_key_file")),
        }
        Ok(())
    }
}

/// The URL itself is not repeated: it may hold a secret.
fn invalid(what: &str) -> Error {
    let message = format!(
        "the URL cannot be used: {what}; expected is pulsar://host[:port][,host…][/tenant/namespace][?option=value&…]"
    );
    Error::new(ErrorKind::InvalidArgument, "connect", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target> {
        Target::parse(url, Options { credentials: None, ..Options::default() })
    }

    #[test]
    fn a_url_says_where_and_how() {
        let target =
            parse("pulsar://a,b:1/t/n?admin=http://c:2&token=s%2Bcret&batching=off&listener=out").expect("a URL");
        let host = |name: &str, port| Host { name: name.into(), port };
        assert_eq!(target.hosts, [host("a", 6650), host("b", 1)]);
        assert_eq!((target.tls, target.namespace.0.as_str()), (false, "t/n"));
        assert_eq!(target.admin.as_str(), "http://c:2/");
        assert!(matches!(&target.options.credentials, Some(Credentials::Token(token)) if token == "s+cret"));
        assert_eq!(target.options.batching, Batching::Off);
        assert!(!format!("{target:?}").contains("cret"), "a secret is shown");

        let target = parse("pulsar+ssl://[::1]").expect("a URL");
        assert_eq!((target.hosts, target.tls), (vec![host("::1", 6651)], true));
        assert_eq!(target.admin.as_str(), "https://[::1]:8443/");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_repeating_it() {
        for url in [
            "kafka://a",
            "pulsar://",
            "pulsar://user:secret@a",
            "pulsar://a:b",
            "pulsar://a/only",
            "pulsar://a?secret=1",
            "pulsar://a?oauth2_issuer=x",
            "pulsar://a?admin=nothing",
        ] {
            let error = parse(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(!error.to_string().contains("user:secret"), "{error}");
        }
    }
}
