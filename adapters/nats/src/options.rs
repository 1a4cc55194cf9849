use std::fmt;
use std::path::PathBuf;

use partitura_broker::{Error, ErrorKind, Result};

use crate::wire::decode_url;

/// How to connect to NATS, and what to create there.
///
/// What is not set here comes from the URL, then from the environment, then from the defaults:
///
/// | | URL | environment |
/// |---|---|---|
/// | user, password | `nats://USER:PASSWORD@HOST` | `NATS_USER`, `NATS_PASSWORD` |
/// | token | `nats://TOKEN@HOST`, `?token=` | `NATS_TOKEN` |
/// | credentials file (JWT and seed) | `?creds=PATH` | `NATS_CREDS` |
/// | NKey seed | `?nkey=PATH` | `NATS_NKEY` (a path) |
/// | certificate authority, PEM | `?tls_ca=PATH` | `NATS_CA` |
/// | client certificate and key, PEM | `?tls_cert=PATH&tls_key=PATH` | `NATS_CERT`, `NATS_KEY` |
/// | prefix | `?prefix=` | |
/// | replicas | `?replicas=` | |
/// | JetStream domain, or the prefix of its API | `?domain=` or `?api_prefix=` | |
///
/// `tls://` requires TLS; with `nats://` the server decides. Characters that mean something in a URL are percent-encoded.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Credentials. Without any, the server's `no_auth_user`, if it has one.
    pub auth: Option<Auth>,
    /// The certificate authorities to trust instead of the system's, in PEM.
    pub tls_ca: Option<PathBuf>,
    /// The client's certificate and its key, in PEM.
    pub tls_client: Option<(PathBuf, PathBuf)>,
    /// What the client is called in the server's lists. By default `partitura`.
    pub name: Option<String>,
    /// What the names of streams and subjects begin with. By default `partitura`. Letters, digits, `_` and `-`.
    pub prefix: Option<String>,
    /// On how many servers of a cluster new streams are kept: 1 (default), 3 or 5.
    pub replicas: Option<usize>,
    /// The JetStream domain to work in, where it is not that of the server that is connected to: a hub behind a leaf node.
    pub domain: Option<String>,
    /// What the subjects of the JetStream API begin with, where another account exports them under a prefix of its own. By
    /// default `$JS.API`, or what the domain says.
    pub api_prefix: Option<String>,
}

/// Who we are.
#[derive(Clone)]
#[non_exhaustive]
pub enum Auth {
    /// User and password.
    Password {
        /// The user.
        user: String,
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
            Self::Password { user, .. } => f.debug_struct("Password").field("user", user).finish_non_exhaustive(),
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
            .field("tls_ca", &self.tls_ca)
            .field("prefix", &self.prefix)
            .field("domain", &self.domain)
            .field("api_prefix", &self.api_prefix)
            .finish_non_exhaustive()
    }
}

/// Options, URL and environment put together.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Each `SCHEME://HOST:PORT`, without credentials.
    pub(crate) servers: Vec<String>,
    pub(crate) tls: bool,
    pub(crate) auth: Option<Auth>,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) tls_client: Option<(PathBuf, PathBuf)>,
    pub(crate) name: String,
    pub(crate) prefix: String,
    /// What was asked for; `None` where whatever there is will do.
    pub(crate) replicas: Option<usize>,
    /// What the subjects of the JetStream API begin with.
    pub(crate) api: String,
}

/// The API of the server itself.
pub(crate) const API: &str = "$JS.API";

impl Settings {
    pub(crate) fn new(url: &str, options: Options) -> Result<Self> {
        Self::from(url, options, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from(url: &str, options: Options, environment: impl Fn(&str) -> Option<String>) -> Result<Self> {
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
                return Err(invalid("a domain and an API prefix; one of them says where JetStream is"));
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
            tls_ca: options.tls_ca.or_else(|| path("tls_ca", "NATS_CA")),
            tls_client: options.tls_client.or_else(|| path("tls_cert", "NATS_CERT").zip(path("tls_key", "NATS_KEY"))),
            name: options.name.unwrap_or_else(|| "partitura".into()),
            prefix,
            replicas: options.replicas.or(replicas),
        })
    }
}

fn auth_from(environment: &impl Fn(&str) -> Option<String>) -> Option<Auth> {
    if let (Some(user), Some(password)) = (environment("NATS_USER"), environment("NATS_PASSWORD")) {
        return Some(Auth::Password { user, password });
    }
    environment("NATS_TOKEN")
        .map(Auth::Token)
        .or_else(|| environment("NATS_CREDS").map(|path| Auth::Credentials(path.into())))
        .or_else(|| environment("NATS_NKEY").map(|path| Auth::NKey(path.into())))
}

/// A URL, taken apart. It is never repeated in an error, since it may hold a password.
struct Address {
    tls: bool,
    auth: Option<Auth>,
    servers: Vec<String>,
    parameters: Vec<(String, String)>,
}

const PARAMETERS: [&str; 10] =
    ["api_prefix", "creds", "domain", "nkey", "prefix", "replicas", "tls_ca", "tls_cert", "tls_key", "token"];

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
            Some(Ok((user, password))) => Some(Auth::Password { user: decode(user)?, password: decode(password)? }),
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
        Settings::from(url, Options::default(), |_| None)
    }

    #[test]
    fn a_url_says_where_and_who() {
        let found = settings("nats://a%40b:p%3Aq@one,two:4333/?replicas=3&prefix=x&tls_ca=ca.pem").expect("a good URL");
        assert_eq!(found.servers, ["nats://one", "nats://two:4333"]);
        assert!(matches!(&found.auth, Some(Auth::Password { user, password }) if user == "a@b" && password == "p:q"));
        assert_eq!((found.replicas, &*found.prefix, found.tls), (Some(3), "x", false));
        assert_eq!(found.tls_ca, Some("ca.pem".into()));
        let token = settings("tls://secret@[::1]:4222").expect("a good URL");
        assert!(token.tls && matches!(&token.auth, Some(Auth::Token(token)) if token == "secret"));
        assert_eq!(token.servers, ["tls://[::1]:4222"]);
    }

    #[test]
    fn a_domain_or_a_prefix_says_where_jetstream_is() {
        let api = |query| settings(&format!("nats://h{query}")).map(|settings| settings.api).ok();
        assert_eq!(api("").as_deref(), Some("$JS.API"));
        assert_eq!(api("?domain=hub").as_deref(), Some("$JS.hub.API"));
        assert_eq!(api("?api_prefix=theirs.api").as_deref(), Some("theirs.api"));
        assert_eq!((api("?domain=a&api_prefix=b"), api("?domain="), api("?api_prefix=a.*")), (None, None, None));
    }

    #[test]
    fn the_environment_comes_last() {
        let environment = |name: &str| match name {
            "NATS_TOKEN" => Some("t".to_owned()),
            "NATS_CA" => Some("ca".to_owned()),
            _ => None,
        };
        let from = |url| Settings::from(url, Options::default(), environment).expect("a good URL");
        assert!(matches!(from("nats://h").auth, Some(Auth::Token(_))));
        assert!(matches!(from("nats://h?nkey=seed").auth, Some(Auth::NKey(_))));
        assert_eq!(from("nats://h").tls_ca, Some("ca".into()));
        let options = Options { auth: Some(Auth::Seed("S".into())), ..Options::default() };
        let explicit = Settings::from("nats://t@h", options, environment).expect("a good URL");
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
