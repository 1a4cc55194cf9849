//! The options of a connection: from a URL, from fields, and from the environment, in this order.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use partitura_broker::{Clock, Error, ErrorKind, Result, SystemClock};
use reqwest::Url;

use crate::names::Namespace;

/// The options of a connection. The URL of [`connect`](crate::Pulsar::connect) goes before them. Their defaults come
/// from the environment: `PARTITURA_PULSAR_TOKEN` and `PARTITURA_PULSAR_CA`. An empty variable counts as unset.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The base URL of the admin API. `None`: port 8080 of the first host, or 8443 with TLS.
    pub admin: Option<String>,
    /// The identity of the client. `None`: an anonymous client.
    pub credentials: Option<Credentials>,
    /// A file with the certificate authorities to trust, in PEM. `None`: those that browsers trust.
    pub ca: Option<PathBuf>,
    /// The tenant and namespace of every topic: `tenant/namespace`. `None`: `public/default`.
    pub namespace: Option<String>,
    /// The name of the advertised listener of the brokers to be sent to. `None`: the broker decides by the port.
    pub listener: Option<String>,
    /// Whether messages of ordered topics are sent in batches.
    pub batching: Batching,
    /// The source of the time.
    pub clock: Arc<dyn Clock>,
}

/// The identity of a client.
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
    /// The URL of the provider's description, without `/.well-known/openid-configuration`.
    pub issuer: String,
    /// A JSON file with `client_id` and `client_secret`.
    pub key_file: PathBuf,
    /// The audience of the token.
    pub audience: Option<String>,
    /// The scope of the token.
    pub scope: Option<String>,
}

/// Whether messages of ordered topics are sent in batches. A batch is one entry of the log. A broker can settle single
/// messages of an entry only if `acknowledgmentAtBatchIndexLevelEnabled` is on, which is the default from 4.1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Batching {
    /// If the broker's configuration says that it can settle single messages of a batch.
    #[default]
    Auto,
    /// Yes: the broker can, and does not show its configuration.
    On,
    /// No.
    Off,
}

impl Default for Options {
    /// An anonymous client of `public/default`, unless the environment has a token.
    fn default() -> Self {
        let variable =
            |name: &str| std::env::var(format!("PARTITURA_PULSAR_{name}")).ok().filter(|value| !value.is_empty());
        Self {
            admin: None,
            credentials: variable("TOKEN").map(Credentials::Token),
            ca: variable("CA").map(PathBuf::from),
            namespace: None,
            listener: None,
            batching: Batching::Auto,
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for Options {
    /// Leaves secrets out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("admin", &self.admin)
            .field("credentials", &self.credentials)
            .field("ca", &self.ca)
            .field("namespace", &self.namespace)
            .field("listener", &self.listener)
            .field("batching", &self.batching)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    /// Leaves secrets out.
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

/// A URL and options, read.
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
        // The port is after the last colon that is not within the brackets of an IPv6 address.
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
    /// Reads the query of a URL.
    fn read(&mut self, query: &str) -> Result<()> {
        let parsed = Url::parse(&format!("x://x?{query}")).map_err(|error| invalid("its options").because(error))?;
        let (mut issuer, mut key_file, mut audience, mut scope) = (None, None, None, None);
        for (name, value) in parsed.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())) {
            match name.as_str() {
                "admin" => self.admin = Some(value),
                "token" => self.credentials = Some(Credentials::Token(value)),
                "token_file" => self.credentials = Some(Credentials::TokenFile(value.into())),
                "ca" => self.ca = Some(value.into()),
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

/// Does not repeat the URL, since it may hold a secret.
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
    fn a_url_names_hosts_namespace_and_options() {
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
    fn an_invalid_url_is_refused_without_repeating_it() {
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
