//! The options of a connection: from a URL, from fields, and from the environment, in this order.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;

/// Options for the connection to a broker.
///
/// The URL comes first, then these options, then the environment: `PARTITURA_AMQP_USERNAME`, `PARTITURA_AMQP_PASSWORD`,
/// `PARTITURA_AMQP_CA`, `PARTITURA_AMQP_CERTIFICATE` and `PARTITURA_AMQP_KEY`. An empty variable counts as unset.
///
/// ```text
/// amqp10://host?profile=artemis
/// amqps10://username:password@host:5671?profile=artemis&ca=/etc/artemis/ca.pem&idle=10
/// amqps10://host:5671?profile=solace&certificate=/etc/app/client.pem&key=/etc/app/client.key
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The kind of broker. In the URL it is `profile`, and one of the two must say it.
    pub profile: Option<Profile>,
    /// The user name, for SASL PLAIN. If neither this nor a certificate is set, the client is anonymous.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The certificate authorities to trust, in PEM. `None`: those that browsers trust.
    pub ca: Option<PathBuf>,
    /// The client's certificate, and those between it and its authority, in PEM. Without a user name it is the login,
    /// by SASL EXTERNAL. It needs TLS and the [key](Self::key).
    pub certificate: Option<PathBuf>,
    /// The private key of the certificate, in PEM.
    pub key: Option<PathBuf>,
    /// The limit for connecting.
    pub connect_within: Duration,
    /// A connection on which the broker is silent for so long counts as lost. In the URL it is `idle`, in seconds.
    pub idle_timeout: Duration,
}

/// The kind of broker: what AMQP 1.0 leaves open, each does in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Apache Artemis, and Red Hat's AMQ Broker. In the URL: `artemis`.
    Artemis,
    /// Solace's event brokers. In the URL: `solace`. Built from its documentation, and not run on one yet.
    Solace,
    /// Azure Service Bus. In the URL: `servicebus`. Built from its documentation, and not run on it yet.
    ServiceBus,
}

impl Profile {
    /// The names in URLs.
    const NAMES: &[(&str, Self)] =
        &[("artemis", Self::Artemis), ("solace", Self::Solace), ("servicebus", Self::ServiceBus)];
}

impl Default for Options {
    /// 10 s to connect, 10 s of silence.
    fn default() -> Self {
        Self {
            profile: None,
            username: None,
            password: None,
            ca: None,
            certificate: None,
            key: None,
            connect_within: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for Options {
    /// Leaves the password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("profile", &self.profile)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("ca", &self.ca)
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .field("connect_within", &self.connect_within)
            .field("idle_timeout", &self.idle_timeout)
            .finish()
    }
}

/// The settings from URL, options and environment.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    pub(crate) profile: Profile,
    pub(crate) login: Login,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) connect_within: Duration,
    pub(crate) idle_timeout: Duration,
}

/// How a client says who it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Anonymous,
    Password {
        user: String,
        password: String,
    },
    /// By the files of a certificate and its key.
    Certificate {
        certificate: PathBuf,
        key: PathBuf,
    },
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())
    }
}

impl Target {
    /// Takes values from the URL, then from the options, then from the environment.
    pub(crate) fn new(url: &str, options: &Options) -> Result<Self> {
        Self::read(url, options, |name| std::env::var(format!("PARTITURA_AMQP_{name}")).ok())
    }

    /// `variable` reads a variable of the environment by its name without the prefix.
    fn read(url: &str, options: &Options, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
        let tls = match scheme {
            "amqp10" => false,
            "amqps10" => true,
            _ => return Err(invalid("its scheme is neither amqp10 nor amqps10")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !path.is_empty() {
            return Err(invalid("it has a path, and AMQP 1.0 knows none"));
        }
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let (host, port) = host_and_port(host, if tls { 5671 } else { 5672 })?;
        let environment = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut target = Self {
            host,
            port,
            tls,
            profile: options.profile.unwrap_or(Profile::Artemis),
            login: Login::Anonymous,
            ca: options.ca.clone().or_else(|| environment("CA").map(PathBuf::from)),
            connect_within: options.connect_within,
            idle_timeout: options.idle_timeout,
        };
        let mut files = Files {
            certificate: options.certificate.clone().or_else(|| environment("CERTIFICATE").map(PathBuf::from)),
            key: options.key.clone().or_else(|| environment("KEY").map(PathBuf::from)),
        };
        let has_profile = target.read_query(query, &mut files)? || options.profile.is_some();
        target.login = match login(user, options, environment)? {
            Login::Anonymous => files.login(tls)?,
            password => password,
        };
        if has_profile { Ok(target) } else { Err(invalid("it lacks the kind of broker: add ?profile=artemis")) }
    }

    /// Returns whether the query names a profile.
    fn read_query(&mut self, query: &str, files: &mut Files) -> Result<bool> {
        let mut has_profile = false;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| invalid("an option has no value"))?;
            let value = decode(value)?;
            match name {
                "profile" => match Profile::NAMES.iter().find(|(name, _)| *name == value) {
                    Some((_, profile)) => {
                        self.profile = *profile;
                        has_profile = true;
                    }
                    None => return Err(invalid("its profile is not known; there are artemis, solace and servicebus")),
                },
                "ca" => self.ca = Some(PathBuf::from(value.as_ref())),
                "certificate" => files.certificate = Some(PathBuf::from(value.as_ref())),
                "key" => files.key = Some(PathBuf::from(value.as_ref())),
                "idle" => match value.parse() {
                    Ok(seconds) if seconds > 0 => self.idle_timeout = Duration::from_secs(seconds),
                    _ => return Err(invalid("idle is no number of seconds")),
                },
                _ => return Err(invalid("it has an option other than profile, ca, certificate, key and idle")),
            }
        }
        Ok(has_profile)
    }

    /// The address for logs and errors, without credentials.
    pub(crate) fn address(&self) -> String {
        format!("{}://{}:{}", if self.tls { "amqps10" } else { "amqp10" }, self.host, self.port)
    }
}

/// The files of a client's certificate.
struct Files {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Files {
    fn login(self, tls: bool) -> Result<Login> {
        match (self.certificate, self.key) {
            (None, None) => Ok(Login::Anonymous),
            (Some(_), Some(_)) if !tls => Err(invalid("a certificate needs TLS: write amqps10")),
            (Some(certificate), Some(key)) => Ok(Login::Certificate { certificate, key }),
            _ => Err(invalid("a certificate needs its key, and a key its certificate")),
        }
    }
}

/// User and password: both from the URL, or each from the options or else the environment.
fn login(user: Option<&str>, options: &Options, environment: impl Fn(&str) -> Option<String>) -> Result<Login> {
    if let Some(user) = user {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        return Ok(Login::Password { user: decode(user)?.into_owned(), password: decode(password)?.into_owned() });
    }
    let password = || options.password.clone().or_else(|| environment("PASSWORD")).unwrap_or_default();
    let user = options.username.clone().or_else(|| environment("USERNAME"));
    Ok(user.map_or(Login::Anonymous, |user| Login::Password { user, password: password() }))
}

fn host_and_port(authority: &str, default_port: u16) -> Result<(String, u16)> {
    // The port is after the last colon that is not within the brackets of an IPv6 address.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().map_err(|_| invalid("its port is not a number"))?)
        }
        _ => (authority, default_port),
    };
    let host = host.trim_matches(['[', ']']);
    if host.is_empty() { Err(invalid("it names no host")) } else { Ok((host.to_owned(), port)) }
}

fn decode(text: &str) -> Result<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().map_err(|_| invalid("its percent-encoding is wrong"))
}

/// The error of a URL. It does not repeat the URL, which may have a password.
fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "connect", format!("the URL cannot be used: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, options: &Options) -> Target {
        Target::read(url, options, |_| None).expect("a good URL")
    }

    #[test]
    fn host_port_and_tls_are_read_from_the_url() {
        let read = |url: &str| {
            let Target { host, port, tls, .. } = target(url, &Options::default());
            (host, port, tls)
        };
        assert_eq!(read("amqp10://host?profile=artemis"), ("host".into(), 5672, false));
        assert_eq!(read("amqps10://host/?profile=artemis"), ("host".into(), 5671, true));
        assert_eq!(read("amqp10://[::1]:7?profile=artemis"), ("::1".into(), 7, false));
        assert_eq!(read("amqp10://[::1]?profile=artemis"), ("::1".into(), 5672, false));
    }

    #[test]
    fn the_url_comes_before_the_options_and_those_before_the_environment() {
        let login = |url: &str, options: &Options| {
            let environment = |name: &str| (name == "USERNAME").then(|| "eve".to_owned());
            match Target::read(url, options, environment).expect("a good URL").login {
                Login::Password { user, password } => Some((user, password)),
                _ => None,
            }
        };
        let options = Options { username: Some("ann".into()), password: Some("a".into()), ..Options::default() };
        assert_eq!(login("amqp10://bob:b%40@h?profile=artemis", &options), Some(("bob".into(), "b@".into())));
        assert_eq!(login("amqp10://h?profile=artemis", &options), Some(("ann".into(), "a".into())));
        assert_eq!(login("amqp10://h?profile=artemis", &Options::default()), Some(("eve".into(), String::new())));
        assert!(target("amqp10://h?profile=artemis", &Options::default()).login == Login::Anonymous);
    }

    #[test]
    fn a_certificate_is_the_login_if_there_is_no_user() {
        let url = "amqps10://h?profile=solace&certificate=/c.pem&key=/k.pem";
        let expected = Login::Certificate { certificate: "/c.pem".into(), key: "/k.pem".into() };
        assert!(target(url, &Options::default()).login == expected);
        let options = Options { username: Some("ann".into()), ..Options::default() };
        assert!(matches!(target(url, &options).login, Login::Password { .. }));
    }

    #[test]
    fn a_wrong_url_is_refused_with_what_to_write() {
        let refused = |url: &str| Target::new(url, &Options::default()).expect_err("refused").to_string();
        assert!(refused("amqp10://host").contains("?profile=artemis"));
        for (url, text) in [
            ("amqp://host?profile=artemis", "scheme"),
            ("amqp10://host?profile=qpid", "profile"),
            ("amqp10://host/queue?profile=artemis", "path"),
            ("amqp10://host:x?profile=artemis", "port"),
            ("amqp10://host?profile=artemis&idle=0", "idle"),
            ("amqp10://host?profile=artemis&cafile=x", "ca"),
            ("amqps10://host?profile=artemis&key=x", "certificate"),
            ("amqp10://host?profile=artemis&certificate=x&key=x", "TLS"),
            ("amqp10://?profile=artemis", "host"),
        ] {
            assert!(refused(url).contains(text), "{url}: {}", refused(url));
        }
    }

    #[test]
    fn nothing_shows_a_password() {
        let options = Options { password: Some("secret".into()), ..Options::default() };
        let shown = format!("{options:?} {:?}", target("amqp10://ann:secret@host?profile=artemis", &options));
        assert!(shown.contains("amqp10://host:5672") && !shown.contains("secret"), "{shown}");
        let error = Target::new("amqp10://ann:secret@host:x", &options).expect_err("no port");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}
