use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::AMQPUri;
use partitura_broker::{Error, ErrorKind, Result};

/// Options for the connection to RabbitMQ.
///
/// The URL comes first, then these options, then the environment: `PARTITURA_RABBITMQ_USERNAME`,
/// `PARTITURA_RABBITMQ_PASSWORD` and `PARTITURA_RABBITMQ_CA`. An empty variable counts as unset.
///
/// ```text
/// amqp://host
/// amqps://username:password@host:5671/vhost?ca=/etc/rabbitmq/ca.pem&heartbeat=10&hold=1800
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The user name. If it is set nowhere: `guest`.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The certificate authorities to trust beside those of the system, in PEM.
    pub ca: Option<PathBuf>,
    /// The limit for connecting.
    pub connect_within: Duration,
    /// The interval of each side's heartbeats. A connection that is silent for twice as long counts as lost.
    pub heartbeat: Duration,
    /// The time for which the server lets a delivery be held: its `consumer_timeout`, or the shortest of its policies.
    /// RabbitMQ's default is 30 min. In the URL it is `hold`, in seconds.
    pub hold: Duration,
}

impl Default for Options {
    /// 10 s to connect, a heartbeat of 5 s, 30 min to hold a delivery.
    fn default() -> Self {
        Self {
            username: None,
            password: None,
            ca: None,
            connect_within: Duration::from_secs(10),
            heartbeat: Duration::from_secs(5),
            hold: Duration::from_secs(30 * 60),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("ca", &self.ca)
            .field("connect_within", &self.connect_within)
            .field("heartbeat", &self.heartbeat)
            .field("hold", &self.hold)
            .finish()
    }
}

/// The settings from URL, options and environment.
pub(crate) struct Target {
    pub(crate) uri: AMQPUri,
    /// The certificate authorities in PEM, from the file.
    pub(crate) authorities: Option<String>,
    pub(crate) connect_within: Duration,
    pub(crate) hold: Duration,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())
    }
}

impl Target {
    /// Takes values from the URL, then from the options, then from the environment.
    pub(crate) fn new(url: &str, options: &Options) -> Result<Self> {
        Self::read(url, options, |name| std::env::var(format!("PARTITURA_RABBITMQ_{name}")).ok())
    }

    /// `variable` reads a variable of the environment by its name without the prefix.
    fn read(url: &str, options: &Options, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let invalid = |what: String| Error::new(ErrorKind::InvalidArgument, "connect", what);
        // The parser's error may repeat the URL, and with it a password.
        let mut uri: AMQPUri = url
            .parse()
            .map_err(|_| invalid("the URL is not of the form amqp://user:password@host:port/vhost".into()))?;
        let (authority, query) = parts(url);
        let environment = |name: &str| variable(name).filter(|value| !value.is_empty());
        if !authority.contains('@') {
            let user = &mut uri.authority.userinfo;
            if let Some(username) = options.username.clone().or_else(|| environment("USERNAME")) {
                user.username = username;
            }
            if let Some(password) = options.password.clone().or_else(|| environment("PASSWORD")) {
                user.password = password;
            }
        }
        if uri.vhost.is_empty() {
            // RabbitMQ's own specification reads this as the virtual host "", which no user means.
            uri.vhost = "/".into();
        }
        let heartbeat = u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1);
        uri.query.heartbeat.get_or_insert(heartbeat);
        let parameter = |name| query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
        if parameter("cacertfile").is_some() {
            return Err(invalid(
                "cacertfile in the URL is called ca here, as for all brokers: write ?ca=FILE".to_owned(),
            ));
        }
        let named = parameter("ca").map(|(_, file)| PathBuf::from(file));
        let hold = match parameter("hold") {
            None => options.hold,
            Some((_, seconds)) => match seconds.parse() {
                Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
                _ => return Err(invalid(format!("hold={seconds} in the URL is no number of seconds"))),
            },
        };
        let file = named.or_else(|| options.ca.clone()).or_else(|| environment("CA").map(PathBuf::from));
        let authorities = file.map(|file| {
            std::fs::read_to_string(&file).map_err(|error| {
                invalid("the file of trusted authorities cannot be read".into()).of(file.display()).because(error)
            })
        });
        Ok(Self { uri, authorities: authorities.transpose()?, connect_within: options.connect_within, hold })
    }

    /// The address for logs and errors, without credentials.
    pub(crate) fn address(&self) -> String {
        format!("{}://{}:{}", self.uri.scheme, self.uri.authority.host, self.uri.authority.port)
    }
}

/// The authority and the query of a URL, unchanged.
fn parts(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    (rest.split('/').next().unwrap_or_default(), query)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, options: &Options) -> Target {
        Target::new(url, options).expect("a good URL")
    }

    #[test]
    fn the_url_comes_before_the_options() {
        let options = Options { username: Some("ann".into()), password: Some("a".into()), ..Options::default() };
        let user = |url| {
            let user = target(url, &options).uri.authority.userinfo;
            (user.username, user.password)
        };
        assert_eq!(user("amqp://host"), ("ann".into(), "a".into()));
        assert_eq!(user("amqp://bob:b%40@host/v"), ("bob".into(), "b@".into()));
    }

    #[test]
    fn the_environment_comes_last_and_an_empty_variable_counts_as_unset() {
        let environment = |name: &str| Some(if name == "USERNAME" { "eve".to_owned() } else { String::new() });
        let user = |url, options| {
            let target = Target::read(url, &options, environment).expect("a good URL");
            (target.uri.authority.userinfo.username, target.uri.authority.userinfo.password)
        };
        assert_eq!(user("amqp://host", Options::default()), ("eve".into(), "guest".into()));
        let options = Options { username: Some("ann".into()), ..Options::default() };
        assert_eq!(user("amqp://host", options).0, "ann");
    }

    #[test]
    fn the_virtual_host_is_the_default_one_unless_it_is_named() {
        let vhost = |url| target(url, &Options::default()).uri.vhost;
        assert_eq!(vhost("amqp://host"), "/");
        assert_eq!(vhost("amqp://host/"), "/");
        assert_eq!(vhost("amqp://host/%2f"), "/");
        assert_eq!(vhost("amqp://host/shop?heartbeat=7"), "shop");
    }

    #[test]
    fn the_name_that_other_clients_have_for_the_ca_file_is_refused_and_not_ignored() {
        let error = Target::new("amqps://host?cacertfile=/etc/ca.pem", &Options::default()).expect_err("refused");
        assert!(error.to_string().contains("write ?ca=FILE"), "{error}");
    }

    #[test]
    fn the_url_may_have_the_limit_for_holding_a_delivery() {
        let hold = |url| Target::new(url, &Options::default()).map(|target| target.hold);
        assert_eq!(hold("amqp://host").ok(), Some(Duration::from_secs(1_800)));
        assert_eq!(hold("amqp://host/v?heartbeat=7&hold=60").ok(), Some(Duration::from_secs(60)));
        for wrong in ["amqp://host?hold=", "amqp://host?hold=0", "amqp://host?hold=1h"] {
            assert_eq!(hold(wrong).map_err(|error| error.kind()), Err(ErrorKind::InvalidArgument), "{wrong}");
        }
    }

    #[test]
    fn nothing_shows_a_password() {
        let options = Options { password: Some("secret".into()), ..Options::default() };
        let shown = format!("{options:?} {:?}", target("amqp://ann:secret@host", &options));
        assert!(shown.contains("amqp://host:5672") && !shown.contains("secret"), "{shown}");
        let error = Target::new("amqp:secret", &options).expect_err("no host");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }

    #[test]
    fn a_missing_file_of_authorities_is_named() {
        let error = Target::new("amqps://host?ca=/no/such.pem", &Options::default()).expect_err("no file");
        assert!(error.to_string().contains("/no/such.pem"), "{error}");
    }
}
