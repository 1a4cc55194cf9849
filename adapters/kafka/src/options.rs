use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result};
use rdkafka::ClientConfig;

/// Options for a connection to Kafka.
///
/// Values in the URL come first, then these options, then the environment:
/// `PARTITURA_KAFKA_USERNAME`, `PARTITURA_KAFKA_PASSWORD` and `PARTITURA_KAFKA_CA`. Empty variables count as unset.
///
/// ```text
/// kafka://host:9092,other:9092
/// kafka://user:password@host:9093?security=sasl_ssl&sasl=SCRAM-SHA-256&ca=/etc/kafka/ca.pem
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`. Unset: `sasl_plaintext` with a user name, else `plaintext`.
    pub security: Option<String>,
    /// `PLAIN` (the default), `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl: Option<String>,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// PEM file of the trusted authorities; unset: those of the system.
    pub ca: Option<PathBuf>,
    /// PEM file of the client certificate, for brokers that require one.
    pub certificate: Option<PathBuf>,
    /// PEM file of the key of the client certificate.
    pub key: Option<PathBuf>,
    /// The number of replicas of topics that are created here; unset: the default of the brokers.
    pub replication: Option<u16>,
    /// The time for which streams keep their messages; unset: 7 days. Queues keep theirs until they are settled.
    pub retention: Option<Duration>,
    /// The time without a heartbeat after which a consumer counts as dead; unset: 6 s, the least that brokers allow
    /// by default.
    pub session: Option<Duration>,
    /// The interval of heartbeats, and of news of other members; unset: a tenth of a second to half a second,
    /// depending on the session.
    pub heartbeat: Option<Duration>,
    /// Any other setting of librdkafka, applied last. Settings on which the adapter relies must stay as they are.
    pub settings: Vec<(String, String)>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.settings.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Options")
            .field("security", &self.security)
            .field("sasl", &self.sasl)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("ca", &self.ca)
            .field("certificate", &self.certificate)
            .field("replication", &self.replication)
            .field("retention", &self.retention)
            .field("session", &self.session)
            .field("heartbeat", &self.heartbeat)
            .field("settings", &names)
            .finish_non_exhaustive()
    }
}

/// The servers and the options of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) servers: String,
    pub(crate) options: Options,
}

impl Target {
    /// Puts the URL over the options, and takes missing values from the environment.
    pub(crate) fn new(url: &str, options: Options) -> Result<Self> {
        Self::read(url, options, |name| std::env::var(name).ok())
    }

    fn read(url: &str, mut options: Options, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let invalid = |what: String| Error::new(ErrorKind::InvalidArgument, "connect", what);
        let rest = url.strip_prefix("kafka://").ok_or_else(|| invalid("a URL of Kafka begins with kafka://".into()))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, servers) = rest.rsplit_once('@').map_or((None, rest), |(user, servers)| (Some(user), servers));
        let servers = servers.trim_end_matches('/');
        if servers.is_empty() {
            return Err(invalid("the URL names no server: kafka://host:9092".into()));
        }
        if let Some(user) = user {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            options.username = Some(unescape(name));
            options.password = Some(unescape(password));
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = unescape(value);
            match name {
                "security" => options.security = Some(value),
                "sasl" => options.sasl = Some(value),
                "ca" => options.ca = Some(value.into()),
                "certificate" => options.certificate = Some(value.into()),
                "key" => options.key = Some(value.into()),
                other => return Err(invalid(format!("the URL has an unknown parameter {other:?}"))),
            }
        }
        let environment = |name| variable(&format!("PARTITURA_KAFKA_{name}")).filter(|value| !value.is_empty());
        options.username = options.username.or_else(|| environment("USERNAME"));
        options.password = options.password.or_else(|| environment("PASSWORD"));
        options.ca = options.ca.or_else(|| environment("CA").map(PathBuf::from));
        Ok(Self { servers: servers.to_owned(), options })
    }

    /// The settings of every client.
    pub(crate) fn config(&self) -> ClientConfig {
        let options = &self.options;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.servers)
            .set("client.id", "partitura")
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // The time in which groups and producers notice partitions that were added.
            .set("topic.metadata.refresh.interval.ms", "30000");
        let security = options.security.as_deref();
        let default = if options.username.is_some() { "sasl_plaintext" } else { "plaintext" };
        config.set("security.protocol", security.unwrap_or(default));
        if let (Some(username), Some(password)) = (&options.username, &options.password) {
            config.set("sasl.mechanism", options.sasl.as_deref().unwrap_or("PLAIN"));
            config.set("sasl.username", username).set("sasl.password", password);
        }
        let files = [
            ("ssl.ca.location", &options.ca),
            ("ssl.certificate.location", &options.certificate),
            ("ssl.key.location", &options.key),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                config.set(name, file.to_string_lossy());
            }
        }
        config
    }

    /// Adds the user's own settings, which come last.
    pub(crate) fn finish(&self, mut config: ClientConfig) -> ClientConfig {
        for (name, value) in &self.options.settings {
            config.set(name, value);
        }
        config
    }

    /// The settings of a member of a group.
    pub(crate) fn consumer_config(&self, group: &str, revoke_within: Duration) -> ClientConfig {
        let longest = Duration::from_secs(300).max(revoke_within * 2);
        let mut config = self.reader_config();
        config
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", self.session().as_millis().to_string())
            .set("heartbeat.interval.ms", self.heartbeat().as_millis().to_string())
            .set("max.poll.interval.ms", longest.as_millis().to_string())
            // Of each partition, since each has a queue of its own.
            .set("queued.max.messages.kbytes", "4096");
        self.finish(config)
    }

    /// The settings of a reader without a group.
    pub(crate) fn reader_config(&self) -> ClientConfig {
        let mut config = self.config();
        config
            .set("group.id", "partitura")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.max.messages.kbytes", "16384");
        self.finish(config)
    }

    pub(crate) fn session(&self) -> Duration {
        self.options.session.unwrap_or(Duration::from_secs(6))
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        let default = (self.session() / 20).clamp(Duration::from_millis(100), Duration::from_millis(500));
        self.options.heartbeat.unwrap_or(default)
    }

    pub(crate) fn retention(&self) -> Duration {
        self.options.retention.unwrap_or(Duration::from_secs(7 * 86_400))
    }
}

/// Replaces `%XX` by the character that it stands for.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let value = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_the_servers_the_credentials_and_the_security() {
        let url = "kafka://bob:p%40ss%3A@a:1,b:2?security=sasl_ssl&sasl=SCRAM-SHA-512&ca=/x/ca.pem";
        let target = Target::new(url, Options::default()).expect("a valid URL");
        assert_eq!(target.servers, "a:1,b:2");
        let config = target.config();
        assert_eq!(config.get("sasl.password"), Some("p@ss:"));
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(config.get("ssl.ca.location"), Some("/x/ca.pem"));
    }

    #[test]
    fn a_url_that_is_not_valid_is_refused() {
        for url in ["localhost:9092", "kafka://", "kafka://user@", "kafka://a:1?tls=yes"] {
            let error = Target::new(url, Options::default()).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn the_environment_gives_what_is_missing_and_empty_values_are_none() {
        let read = |url: &str, value: &str| {
            let target = Target::read(url, Options::default(), |name| {
                name.starts_with("PARTITURA_KAFKA_").then(|| value.to_owned())
            });
            target.expect("a valid URL").options
        };
        let given = read("kafka://bob@a:1?ca=/x/ca.pem", "other");
        assert_eq!((given.username.as_deref(), given.ca), (Some("bob"), Some("/x/ca.pem".into())));
        let filled = read("kafka://a:1", "other");
        assert_eq!((filled.username.as_deref(), filled.password.as_deref()), (Some("other"), Some("other")));
        let unset = read("kafka://a:1", "");
        assert_eq!((unset.username, unset.password, unset.ca), (None, None, None));
    }

    #[test]
    fn no_secret_is_shown() {
        let target = Target::new("kafka://bob:secret@a:1", Options::default()).expect("a valid URL");
        assert!(!format!("{target:?}").contains("secret"));
    }
}
