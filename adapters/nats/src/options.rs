use std::fmt;
use std::path::PathBuf;

use partitura_broker::{Error, ErrorKind, Result};

use crate::wire::decode_url;

/// Options for the connection to NATS, and for the objects that are created there.
///
/// An option that is not set here comes from the URL, then from the environment, then from the defaults:
///
/// | | URL | environment |
/// |---|---|---|
/// | user name, password | `nats://USERNAME:PASSWORD@HOST` | `PARTITURA_NATS_USERNAME`, `PARTITURA_NATS_PASSWORD` |
/// | token | `nats://TOKEN@HOST`, `?token=` | `PARTITURA_NATS_TOKEN` |
/// | credentials file (JWT and seed) | `?creds=PATH` | `PARTITURA_NATS_CREDS` |
/// | NKey seed | `?nkey=PATH` | `PARTITURA_NATS_NKEY` (a path) |
/// | certificate authority, PEM | `?ca=PATH` | `PARTITURA_NATS_CA` |
/// | client certificate and key, PEM | `?tls_cert=PATH&tls_key=PATH` | `PARTITURA_NATS_CERT`, `PARTITURA_NATS_KEY` |
/// | prefix | `?prefix=` | |
/// | replicas | `?replicas=` | |
/// | JetStream domain, or the prefix of its API | `?domain=` or `?api_prefix=` | |
///
/// An empty variable of the environment counts as unset. `tls://` requires TLS; with `nats://` the server decides.
/// Characters with a meaning in URLs are percent-encoded.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Credentials. Without any, the server's `no_auth_user`, if it has one.
    pub auth: Option<Auth>,
    /// The certificate authorities to trust instead of the system's, in PEM.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key, in PEM.
    pub tls_client: Option<(PathBuf, PathBuf)>,
    /// The name of this client in the server's lists. By default `partitura`.
    pub name: Option<String>,
    /// The beginning of the names of streams and subjects: letters, digits, `_` and `-`. By default `partitura`.
    pub prefix: Option<String>,
    /// The number of servers of a cluster that keep a new stream: 1 (default), 3 or 5.
    pub replicas: Option<usize>,
    /// The JetStream domain, if it is not that of the server of the URL: a hub behind a leaf node.
    pub domain: Option<String>,
    /// The beginning of the subjects of the JetStream API, if another account exports them under a prefix of its own.
    /// By default `$JS.API`, or that of the domain.
    pub api_prefix: Option<String>,
}

/// Credentials.
#[derive(Clone)]
#[non_exhaustive]
pub enum Auth {
    /// User name and password.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
    /// A file with a JWT and a seed, as `nsc` writes it.
    Credentials(PathBuf),
    /// A file with an NKey's seed.
    NKey(PathBuf),
    /// An NKey's seed.
    Seed(String),
}

impl fmt::Debug for Auth {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => {
                f.debug_struct("Password").field("username", username).finish_non_exhaustive()
            }
            Self::Token(_) => f.write_str("Token(..)"),
            Self::Credentials(path) => f.debug_tuple("Credentials").field(path).finish(),
            Self::NKey(path) => f.debug_tuple("NKey").field(path).finish(),
            Self::Seed(_) => f.write_str("Seed(..)"),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("auth", &self.auth)
            .field("ca", &self.ca)
            .field("prefix", &self.prefix)
            .field("domain", &self.domain)
            .field("api_prefix", &self.api_prefix)
            .finish_non_exhaustive()
    }
}

/// The settings from options, URL and environment.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Each `SCHEME://HOST:PORT`, without credentials.
    pub(crate) servers: Vec<String>,
    pub(crate) tls: bool,
    pub(crate) auth: Option<Auth>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) tls_client: Option<(PathBuf, PathBuf)>,
    pub(crate) name: String,
    pub(crate) prefix: String,
    /// `None`: any number will do.
    pub(crate) replicas: Option<usize>,
    /// The beginning of the subjects of the JetStream API.
    pub(crate) api: String,
}

/// The API of the server itself.
pub(crate) const API: &str = "$JS.API";

impl Settings {
    pub(crate) fn new(url: &str, options: Options) -> Result<Self> {
        let variable = |name: &str| std::env::var(format!("PARTITURA_NATS_{name}")).ok();
        Self::read(url, options, variable)
    }

    /// `variable` reads a variable of the environment by its name without the prefix.
    fn read(url: &str, options: Options, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let environment = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Address { tls, auth, servers, parameters } = Address::parse(url)?;
        let parameter = |name: &str| parameters.iter().find_map(|(n, value)| (n == name).then(|| value.clone()));
        let path = |name: &str, variable: &str| parameter(name).or_else(|| environment(variable)).map(PathBuf::from);
        let auth = options
            .auth
            .or(auth)
            .or_else(|| parameter("token").map(Auth::Token))
            .or_else(|| parameter("creds").map(|path| Auth::Credentials(path.into())))
            .or_else(|| parameter("nkey").map(|path| Auth::NKey(path.into())))
            .or_else(|| auth_from(&environment));
        let replicas = parameter("replicas").map(|text| text.parse()).transpose();
        let replicas = replicas.map_err(|_| invalid("the parameter `replicas` is not a number"))?;
        let prefix = options.prefix.or_else(|| parameter("prefix")).unwrap_or_else(|| "partitura".into());
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if prefix.is_empty() || prefix.len() > 32 || !prefix.chars().all(plain) {
            return Err(invalid(&format!("the prefix {prefix:?}; use 1 to 32 letters, digits, `_` and `-`")));
        }
        let domain = options.domain.or_else(|| parameter("domain"));
        let api_prefix = options.api_prefix.or_else(|| parameter("api_prefix"));
        let api = match (domain, api_prefix) {
            (Some(_), Some(_)) => {
                return Err(invalid("a domain and an API prefix; give one of them"));
            }
            (Some(domain), None) => format!("$JS.{domain}.API"),
            (None, Some(prefix)) => prefix,
            (None, None) => API.to_owned(),
        };
        if api.split('.').any(|token| token.is_empty() || token.contains([' ', '*', '>'])) {
            return Err(invalid(&format!("the JetStream API at {api:?}; use a domain's name, or a subject")));
        }
        Ok(Self {
            servers,
            tls,
            auth,
            api,
            ca: options.ca.or_else(|| path("ca", "CA")),
            tls_client: options.tls_client.or_else(|| path("tls_cert", "CERT").zip(path("tls_key", "KEY"))),
            name: options.name.unwrap_or_else(|| "partitura".into()),
            prefix,
            replicas: options.replicas.or(replicas),
        })
    }
}

fn auth_from(environment: &impl Fn(&str) -> Option<String>) -> Option<Auth> {
    if let (Some(username), Some(password)) = (environment("USERNAME"), environment("PASSWORD")) {
        return Some(Auth::Password { username, password });
    }
    environment("TOKEN")
        .map(Auth::Token)
        .or_else(|| environment("CREDS").map(|path| Auth::Credentials(path.into())))
        .or_else(|| environment("NKEY").map(|path| Auth::NKey(path.into())))
}

/// The parts of a URL. No error repeats the URL, since it may hold a password.
struct Address {
    tls: bool,
    auth: Option<Auth>,
    servers: Vec<String>,
    parameters: Vec<(String, String)>,
}

const PARAMETERS: [&str; 10] =
    ["api_prefix", "ca", "creds", "domain", "nkey", "prefix", "replicas", "tls_cert", "tls_key", "token"];

impl Address {
    fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| invalid("the URL begins neither nats:// nor tls://"))?;
        let tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(invalid("the URL begins neither nats:// nor tls://")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let rest = rest.trim_end_matches('/');
        let (user_info, hosts) = match rest.rsplit_once('@') {
            Some((user_info, hosts)) => (Some(user_info), hosts),
            None => (None, rest),
        };
        let decode = |text: &str| decode_url(text).ok_or_else(|| invalid("the URL's percent-encoding is wrong"));
        let auth = match user_info.map(|info| info.split_once(':').ok_or(info)) {
            None => None,
            Some(Ok((username, password))) => {
                Some(Auth::Password { username: decode(username)?, password: decode(password)? })
            }
            Some(Err(token)) => Some(Auth::Token(decode(token)?)),
        };
        let servers = hosts.split(',').map(|host| {
            // A scheme may be repeated before each host, as the server's own URLs have it.
            let host = host.rsplit("://").next().unwrap_or(host);
            if host.is_empty() { Err(invalid("the URL names no host")) } else { Ok(format!("{scheme}://{host}")) }
        });
        let mut parameters = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !PARAMETERS.contains(&name) {
                return Err(invalid(&format!("the URL's parameter {name:?} is unknown; known are {PARAMETERS:?}")));
            }
            parameters.push((name.to_owned(), decode(value)?));
        }
        Ok(Self { tls, auth, servers: servers.collect::<Result<_>>()?, parameters })
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "connect", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Result<Settings> {
        Settings::read(url, Options::default(), |_| None)
    }

    #[test]
    fn a_url_has_the_servers_and_the_credentials() {
        let found = settings("nats://a%40b:p%3Aq@one,two:4333/?replicas=3&prefix=x&ca=ca.pem").expect("a good URL");
        assert_eq!(found.servers, ["nats://one", "nats://two:4333"]);
        assert!(
            matches!(&found.auth, Some(Auth::Password { username, password }) if username == "a@b" && password == "p:q")
        );
        assert_eq!((found.replicas, &*found.prefix, found.tls), (Some(3), "x", false));
        assert_eq!(found.ca, Some("ca.pem".into()));
        let token = settings("tls://secret@[::1]:4222").expect("a good URL");
        assert!(token.tls && matches!(&token.auth, Some(Auth::Token(token)) if token == "secret"));
        assert_eq!(token.servers, ["tls://[::1]:4222"]);
    }

    #[test]
    fn a_domain_or_a_prefix_leads_to_jetstream() {
        let api = |query| settings(&format!("nats://h{query}")).map(|settings| settings.api).ok();
        assert_eq!(api("").as_deref(), Some("$JS.API"));
        assert_eq!(api("?domain=hub").as_deref(), Some("$JS.hub.API"));
        assert_eq!(api("?api_prefix=theirs.api").as_deref(), Some("theirs.api"));
        assert_eq!((api("?domain=a&api_prefix=b"), api("?domain="), api("?api_prefix=a.*")), (None, None, None));
    }

    #[test]
    fn the_environment_comes_last() {
        let environment = |name: &str| match name {
            "TOKEN" => Some("t".to_owned()),
            "CA" => Some("ca".to_owned()),
            // An empty value counts as unset.
            _ => Some(String::new()),
        };
        let from = |url| Settings::read(url, Options::default(), environment).expect("a good URL");
        assert!(matches!(from("nats://h").auth, Some(Auth::Token(_))));
        assert!(matches!(from("nats://h?nkey=seed").auth, Some(Auth::NKey(_))));
        assert_eq!(from("nats://h").ca, Some("ca".into()));
        let options = Options { auth: Some(Auth::Seed("S".into())), ..Options::default() };
        let explicit = Settings::read("nats://t@h", options, environment).expect("a good URL");
        assert!(matches!(explicit.auth, Some(Auth::Seed(_))));
    }

    #[test]
    fn a_wrong_url_is_refused_without_repeating_it() {
        for url in
            ["amqp://secret@h", "h:4222", "nats://secret@", "nats://h?secrets=1", "nats://h?replicas=x", "nats://%zz@h"]
        {
            let error = settings(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(!error.to_string().contains("secret@"), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let found = settings("nats://ann:hidden@h").expect("a good URL");
        assert!(!format!("{found:?}").contains("hidden"));
        let options = Options { auth: Some(Auth::Token("hidden".into())), ..Options::default() };
        assert!(!format!("{options:?}").contains("hidden"));
    }
}
